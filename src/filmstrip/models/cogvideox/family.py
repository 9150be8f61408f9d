"""What CogVideoX says about itself."""

from filmstrip.families import Family, Task

FAMILY = Family(
    name="cogvideox",
    title="CogVideoX",
    makes="text, image and video to video; control by a video, with the checkpoints of CogVideoX-Fun",
    licence="2b: Apache-2.0; 5b: CogVideoX's own",
    paper="2408.06072",
    order=30,
    tasks={
        "text-to-video": Task("CogVideoXPipeline", "THUDM/CogVideoX-2b"),
        "image-to-video": Task("CogVideoXImageToVideoPipeline", "THUDM/CogVideoX-5b-I2V"),
        "video-to-video": Task("CogVideoXVideoToVideoPipeline", "THUDM/CogVideoX-5b"),
        "control-to-video": Task("CogVideoXFunControlPipeline", "alibaba-pai/CogVideoX-Fun-V1.1-5b-Pose"),
    },
    checkpoints=(
        "THUDM/CogVideoX-2b",
        "THUDM/CogVideoX-5b",
        "THUDM/CogVideoX-5b-I2V",
        "THUDM/CogVideoX1.5-5B",
        "THUDM/CogVideoX1.5-5B-I2V",
    ),
    public={
        "AutoencoderKLCogVideoX": "autoencoder",
        "CogVideoXDDIMScheduler": "schedulers",
        "CogVideoXDPMScheduler": "schedulers",
        "CogVideoXFunControlPipeline": "pipeline_control",
        "CogVideoXImageToVideoPipeline": "pipeline_image",
        "CogVideoXPipeline": "pipeline_text",
        "CogVideoXTransformer3DModel": "transformer",
        "CogVideoXVideoToVideoPipeline": "pipeline_video",
    },
    transformers_networks=("T5EncoderModel",),
    transformers_processors=("T5Tokenizer", "T5TokenizerFast"),
    known_by="cogvideo",
    manifests=("cogvideox-2b", "cogvideox-5b", "cogvideox-5b-i2v", "cogvideox1.5-5b", "cogvideox1.5-5b-i2v"),
)
