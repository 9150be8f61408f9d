"""Stable Diffusion (arXiv:2112.10752): the networks and pipelines that several families of video models stand on."""

from filmstrip.models.stable_diffusion.autoencoder import AutoencoderKL
from filmstrip.models.stable_diffusion.controlling import MultiControlNetModel
from filmstrip.models.stable_diffusion.controlnet import ControlNetModel
from filmstrip.models.stable_diffusion.pipeline_controlnet import StableDiffusionControlNetPipeline
from filmstrip.models.stable_diffusion.pipeline_pix2pix import StableDiffusionInstructPix2PixPipeline
from filmstrip.models.stable_diffusion.pipeline_text import StableDiffusionPipeline
from filmstrip.models.stable_diffusion.unet import UNet2DConditionModel

__all__ = [
    "AutoencoderKL",
    "ControlNetModel",
    "MultiControlNetModel",
    "StableDiffusionControlNetPipeline",
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionPipeline",
    "UNet2DConditionModel",
]
