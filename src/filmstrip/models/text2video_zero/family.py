"""What Text2Video-Zero says about itself."""

from filmstrip.families import Family, Task

FAMILY = Family(
    name="text2video-zero",
    title="Text2Video-Zero",
    makes="text to video with any Stable Diffusion 1.x or 2.x; poses or edges to video; a clip changed by words",
    licence="that of the image model",
    paper="2303.13439",
    order=40,
    tasks={
        "text-to-video": Task("TextToVideoZeroPipeline", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        "control-to-video": Task("TextToVideoZeroControlNetPipeline", "lllyasviel/sd-controlnet-canny"),
        "video-to-video": Task("TextToVideoZeroInstructPix2PixPipeline", "timbrooks/instruct-pix2pix"),
    },
    checkpoints=(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "lllyasviel/sd-controlnet-canny",
        "lllyasviel/sd-controlnet-openpose",
        "timbrooks/instruct-pix2pix",
    ),
    public={
        "CrossFrameAttnProcessor": "attention",
        "TextToVideoZeroControlNetPipeline": "pipeline_controlnet",
        "TextToVideoZeroInstructPix2PixPipeline": "pipeline_pix2pix",
        "TextToVideoZeroPipeline": "pipeline",
        "TextToVideoZeroSDXLPipeline": "pipeline_sdxl",
    },
    variants=(
        Family(
            name="text2video-zero-xl",
            title="Text2Video-Zero with Stable Diffusion XL",
            makes="text to video with any Stable Diffusion XL",
            licence="that of the image model",
            paper="2303.13439",
            order=41,
            tasks={"text-to-video": Task("TextToVideoZeroSDXLPipeline", "stabilityai/stable-diffusion-xl-base-1.0")},
            checkpoints=("stabilityai/stable-diffusion-xl-base-1.0",),
            known_by="text2video",
        ),
    ),
    made_into_videos={
        "StableDiffusionControlNetPipeline": "TextToVideoZeroControlNetPipeline",
        "StableDiffusionInstructPix2PixPipeline": "TextToVideoZeroInstructPix2PixPipeline",
        "StableDiffusionPipeline": "TextToVideoZeroPipeline",
        "StableDiffusionXLPipeline": "TextToVideoZeroSDXLPipeline",
    },
    builds_on=("stable_diffusion",),
    known_by="text2video|text_to_video_zero",
)
