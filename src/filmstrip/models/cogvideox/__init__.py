"""CogVideoX (arXiv:2408.06072), 1.0 and 1.5: text, image and video to video, and control by a video."""

from filmstrip.models.cogvideox.autoencoder import AutoencoderKLCogVideoX
from filmstrip.models.cogvideox.pipeline_control import CogVideoXFunControlPipeline
from filmstrip.models.cogvideox.pipeline_image import CogVideoXImageToVideoPipeline
from filmstrip.models.cogvideox.pipeline_text import CogVideoXPipeline
from filmstrip.models.cogvideox.pipeline_video import CogVideoXVideoToVideoPipeline
from filmstrip.models.cogvideox.schedulers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from filmstrip.models.cogvideox.transformer import CogVideoXTransformer3DModel

__all__ = [
    "AutoencoderKLCogVideoX",
    "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler",
    "CogVideoXFunControlPipeline",
    "CogVideoXImageToVideoPipeline",
    "CogVideoXPipeline",
    "CogVideoXTransformer3DModel",
    "CogVideoXVideoToVideoPipeline",
]
