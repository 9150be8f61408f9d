"""Pictures as the authors of Stable Video Diffusion make them small for CLIP: blurred, then sampled (bicubic)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_SIGMA = 0.001


def resized_for_clip(pixels: Tensor, side: int) -> Tensor:
    """Pictures as squares, (batch, channels, side, side).

    A Gaussian takes away what the small picture can't show: its deviation, in pixels, is half of what an axis is
    divided by less 1, and it reaches two deviations to either side. Corners stay where they are.

    Args:
        pixels: (batch, channels, height, width).
    """
    for dim in (-1, -2):
        pixels = _blurred(pixels, (pixels.shape[dim] / side - 1) / 2, dim)
    return F.interpolate(pixels, size=(side, side), mode="bicubic", align_corners=True)


def _blurred(pixels: Tensor, sigma: float, dim: int) -> Tensor:
    sigma = max(sigma, LEAST_SIGMA)
    taps = int(max(4 * sigma, 3))
    reach = (taps + (taps % 2 == 0)) // 2
    places = torch.arange(-reach, reach + 1, dtype=torch.float32, device=pixels.device)
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    channels = pixels.shape[1]
    size = (1, -1) if dim == -1 else (-1, 1)
    kernel = (weights / weights.sum()).view(1, 1, *size).expand(channels, -1, -1, -1)
    padding = (reach, reach, 0, 0) if dim == -1 else (0, 0, reach, reach)
    mode = "reflect" if reach < pixels.shape[dim] else "replicate"  # where there are too few pixels to reflect
    return F.conv2d(F.pad(pixels, padding, mode=mode), kernel.to(pixels.dtype), groups=channels)
