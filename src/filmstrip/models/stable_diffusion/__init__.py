"""Stable Diffusion (arXiv:2112.10752): the networks that several families of video models stand on."""

from filmstrip.models.stable_diffusion.controlnet import ControlNetModel
from filmstrip.models.stable_diffusion.unet import UNet2DConditionModel

__all__ = ["ControlNetModel", "UNet2DConditionModel"]
