"""What Stable Video Diffusion says about itself."""

from filmstrip.families import Family, Task

FAMILY = Family(
    name="stable-video-diffusion",
    title="Stable Video Diffusion",
    makes="image to video",
    licence="Stability AI's own, with each checkpoint",
    paper="2311.15127",
    order=35,
    tasks={
        "image-to-video": Task("StableVideoDiffusionPipeline", "stabilityai/stable-video-diffusion-img2vid-xt"),
    },
    checkpoints=(
        "stabilityai/stable-video-diffusion-img2vid",
        "stabilityai/stable-video-diffusion-img2vid-xt",
    ),
    public={
        "AutoencoderKLTemporalDecoder": "autoencoder",
        "StableVideoDiffusionPipeline": "pipeline",
        "UNetSpatioTemporalConditionModel": "unet",
    },
    builds_on=("stable_diffusion",),
    transformers_networks=("CLIPVisionModelWithProjection",),
    transformers_processors=("CLIPImageProcessor",),
    known_by=r"stable[ _-]?video|svd",
    manifests=("stable-video-diffusion-img2vid", "stable-video-diffusion-img2vid-xt"),
)
