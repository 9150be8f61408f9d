"""Where a video's numbers lie in memory: (batch, channels, frames, height, width), best with channels side by side."""

from __future__ import annotations

import torch
from torch import Tensor


def channels_last(hidden_states: Tensor) -> Tensor:
    """The same video, with each position's channels side by side in memory."""
    return hidden_states.contiguous(memory_format=torch.channels_last_3d)


def empty_channels_last(like: Tensor, channels: int, size: tuple[int, int, int]) -> Tensor:
    """Room for as many videos, (batch, channels, *size), with each position's channels side by side in memory."""
    return like.new_empty(like.shape[0], *size, channels).movedim(-1, 1)
