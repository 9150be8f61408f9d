"""LTX-Video (arXiv:2501.00103): text, image and video to video, and its latent upsampler."""

from filmstrip.models.ltx.autoencoder import AutoencoderKLLTXVideo
from filmstrip.models.ltx.transformer import LTXVideoTransformer3DModel
from filmstrip.models.ltx.upsampler import LTXLatentUpsamplerModel

__all__ = ["AutoencoderKLLTXVideo", "LTXLatentUpsamplerModel", "LTXVideoTransformer3DModel"]
