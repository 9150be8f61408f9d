"""The one convolution call, and the choice of what computes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve(
    hidden_states: Tensor,  # (batch, channels, [frames,] height, width)
    weight: Tensor,
    bias: Tensor | None,
    padding: Sequence[int],
    stride: Sequence[int] | None = None,
) -> Tensor:
    """A convolution of pictures or videos, with zeros around them.

    For a single video in float32 torch takes a way of its own on a CPU where it holds few rows, or where the kernel is
    a single position; that takes up to five times as long as oneDNN's, which this calls wherever it can.
    """
    stride = stride or (1,) * len(padding)
    if _leaves_onednn_out(hidden_states, weight):
        return torch.mkldnn_convolution(hidden_states, weight, bias, padding, stride, (1,) * len(padding), 1)
    plain = F.conv2d if len(padding) == 2 else F.conv3d
    return plain(hidden_states, weight, bias, stride=tuple(stride), padding=tuple(padding))


def _leaves_onednn_out(hidden_states: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and hidden_states.device.type == "cpu"
        and hidden_states.dtype == weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
    )
