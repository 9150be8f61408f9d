"""The motion of Text2Video-Zero (arXiv:2303.13439, section 3.1): later frames begin as the first one, moved."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Strengths of motion are in pixels of a field of this size, whatever the video's size.
FIELD = 512


def moved_latents(
    latents: Tensor,  # (batch, channels, height, width)
    frames: Sequence[int],
    strength_x: float,
    strength_y: float,
) -> Tensor:  # (batch, len(frames), channels, height, width)
    """The latents as a camera that moves evenly would see them at each frame, mirrored at the borders.

    Args:
        strength_x, strength_y: how far to move from one frame to the next, in 512ths of the width and the height.
    """
    return torch.stack([_moved(latents, frame * strength_x, frame * strength_y) for frame in frames], dim=1)


def _moved(latents: Tensor, along_x: float, along_y: float) -> Tensor:
    height, width = latents.shape[-2:]
    grid = torch.stack(
        [
            _places(width, along_x, latents.device).expand(height, -1),
            _places(height, along_y, latents.device)[:, None].expand(-1, width),
        ],
        dim=-1,
    )  # (height, width, 2) in [-1, 1], x before y
    grid = grid.expand(len(latents), -1, -1, -1).to(latents.dtype)
    return F.grid_sample(latents, grid, mode="nearest", padding_mode="reflection", align_corners=False)


def _places(size: int, along: float, device: torch.device) -> Tensor:
    """Where each of `size` positions looks: the field of 512 places, moved and brought down to them."""
    field = (torch.arange(FIELD, dtype=torch.float32, device=device) + along) / FIELD * 2 - 1
    return F.interpolate(field[None, None], size=size, mode="linear")[0, 0]
