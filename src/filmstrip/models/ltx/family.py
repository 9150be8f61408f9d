"""What LTX-Video says about itself."""

from filmstrip.families import Family, Task

# As the model cards and the authors' own programs have them.
_TIMED_DECODER = {"decode_timestep": 0.05, "decode_noise_scale": 0.025}
_LARGE = {**_TIMED_DECODER, "image_cond_noise_scale": 0.0}
_DISTILLED = {
    **_LARGE,
    "timesteps": (1000, 993, 987, 981, 975, 909, 725, 0.03),
    "num_inference_steps": 8,
    "guidance_scale": 1.0,
}

FAMILY = Family(
    name="ltx",
    title="LTX-Video",
    makes="text, image, video and keyframes to video; latent upsampling",
    licence="LTX-Video's own, with each checkpoint",
    paper="2501.00103",
    order=20,
    tasks={
        "text-to-video": Task("LTXPipeline", "Lightricks/LTX-Video"),
        "image-to-video": Task("LTXImageToVideoPipeline", "Lightricks/LTX-Video"),
        "video-to-video": Task("LTXConditionPipeline", "Lightricks/LTX-Video-0.9.5"),
        "latent-upsampling": Task("LTXLatentUpsamplePipeline", "Lightricks/ltxv-spatial-upscaler-0.9.7"),
    },
    checkpoints=(
        "Lightricks/LTX-Video",
        "Lightricks/LTX-Video-0.9.5",
        "Lightricks/LTX-Video-0.9.7-dev",
        "Lightricks/LTX-Video-0.9.8-13B-distilled",
        "Lightricks/ltxv-spatial-upscaler-0.9.7",
    ),
    public={
        "AutoencoderKLLTXVideo": "autoencoder",
        "LTXConditionPipeline": "pipeline_condition",
        "LTXImageToVideoPipeline": "pipeline_image",
        "LTXLatentUpsamplePipeline": "pipeline_upsample",
        "LTXLatentUpsamplerModel": "upsampler",
        "LTXPipeline": "pipeline_text",
        "LTXVideoCondition": "conditions",
        "LTXVideoTransformer3DModel": "transformer",
    },
    filed_with_pipeline={"LTXLatentUpsamplerModel": "ltx"},
    transformers_networks=("T5EncoderModel",),
    transformers_processors=("T5Tokenizer", "T5TokenizerFast"),
    known_by="ltx",
    manifests=(
        "ltx-video",
        "ltx-video-0.9.1-diffusers",
        "ltx-video-0.9.5",
        "ltx-video-0.9.7-dev",
        "ltx-video-0.9.8-13b-distilled",
        "ltxv-spatial-upscaler-0.9.7",
    ),
    presets={
        r"ltx-video-0\.9\.[15](-diffusers)?": _TIMED_DECODER,
        r"ltx-video-0\.9\.[78].*distilled.*": _DISTILLED,
        r"ltx-video-0\.9\.[78].*": {**_LARGE, "guidance_scale": 5.0, "num_inference_steps": 30},
    },
)
