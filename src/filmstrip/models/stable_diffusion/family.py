"""What Stable Diffusion says about itself."""

from filmstrip.families import Family, Task

FAMILY = Family(
    name="stable-diffusion",
    title="Stable Diffusion, the base of others",
    makes="pictures from text, by control and by instruction",
    licence="CreativeML Open RAIL-M; InstructPix2Pix: MIT",
    paper="2112.10752",
    order=50,
    tasks={
        "text-to-image": Task("StableDiffusionPipeline", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        "control-to-image": Task("StableDiffusionControlNetPipeline", "lllyasviel/sd-controlnet-openpose"),
        "image-editing": Task("StableDiffusionInstructPix2PixPipeline", "timbrooks/instruct-pix2pix"),
    },
    checkpoints=(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "lllyasviel/sd-controlnet-openpose",
        "timbrooks/instruct-pix2pix",
    ),
    public={
        "AutoencoderKL": "autoencoder",
        "ControlNetModel": "controlnet",
        "MultiControlNetModel": "controlling",
        "StableDiffusionControlNetPipeline": "pipeline_controlnet",
        "StableDiffusionInstructPix2PixPipeline": "pipeline_pix2pix",
        "StableDiffusionPipeline": "pipeline_text",
        "UNet2DConditionModel": "unet",
    },
    transformers_networks=("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPVisionModelWithProjection"),
    transformers_processors=("CLIPFeatureExtractor", "CLIPImageProcessor", "CLIPTokenizer", "CLIPTokenizerFast"),
    known_by=r"stable[ _-]?(video[ _-]?)?diffusion",
    manifests=(
        "instruct-pix2pix",
        "sd-controlnet-canny",
        "sd-controlnet-openpose",
        "stable-diffusion-v1-5",
    ),
)
