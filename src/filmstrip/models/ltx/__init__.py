"""LTX-Video (arXiv:2501.00103): text, image and video to video, and its latent upsampler."""

from filmstrip.models.ltx.autoencoder import AutoencoderKLLTXVideo
from filmstrip.models.ltx.conditions import LTXVideoCondition
from filmstrip.models.ltx.pipeline_condition import LTXConditionPipeline
from filmstrip.models.ltx.pipeline_image import LTXImageToVideoPipeline
from filmstrip.models.ltx.pipeline_text import LTXPipeline
from filmstrip.models.ltx.pipeline_upsample import LTXLatentUpsamplePipeline
from filmstrip.models.ltx.transformer import LTXVideoTransformer3DModel
from filmstrip.models.ltx.upsampler import LTXLatentUpsamplerModel

__all__ = [
    "AutoencoderKLLTXVideo",
    "LTXConditionPipeline",
    "LTXImageToVideoPipeline",
    "LTXLatentUpsamplePipeline",
    "LTXLatentUpsamplerModel",
    "LTXPipeline",
    "LTXVideoCondition",
    "LTXVideoTransformer3DModel",
]
