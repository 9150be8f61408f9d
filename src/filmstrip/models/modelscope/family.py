"""What ModelScope and zeroscope say about themselves."""

from filmstrip.families import Family, Task

FAMILY = Family(
    name="modelscope",
    title="ModelScope and zeroscope",
    makes="text to video; a clip changed by words, with which zeroscope XL enlarges those of zeroscope 576w",
    licence="CC-BY-NC-4.0: not for commercial use",
    paper="2308.06571",
    order=45,
    tasks={
        "text-to-video": Task("TextToVideoSDPipeline", "damo-vilab/text-to-video-ms-1.7b"),
        "video-to-video": Task("VideoToVideoSDPipeline", "cerspense/zeroscope_v2_XL"),
    },
    checkpoints=(
        "damo-vilab/text-to-video-ms-1.7b",
        "cerspense/zeroscope_v2_576w",
        "cerspense/zeroscope_v2_XL",
    ),
    public={
        "TextToVideoSDPipeline": "pipeline_text",
        "UNet3DConditionModel": "unet",
        "VideoToVideoSDPipeline": "pipeline_video",
    },
    transformers_networks=("CLIPTextModel",),
    transformers_processors=("CLIPTokenizer", "CLIPTokenizerFast"),
    builds_on=("stable_diffusion",),
    known_by="modelscope|zeroscope|text[ _-]to[ _-]video[ _-](ms|synth)",
    manifests=("text-to-video-ms-1.7b", "zeroscope_v2_576w", "zeroscope_v2_xl"),
    presets={
        "zeroscope_v2_576w": {"height": 320, "width": 576, "num_frames": 24},
        "zeroscope_v2_xl": {"height": 576, "width": 1024, "num_frames": 24},
    },
)
