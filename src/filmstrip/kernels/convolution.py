"""The one convolution call, and the choice of what computes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from filmstrip.kernels import onednn
from filmstrip.kernels.linear import product, takes_onednn
from filmstrip.kernels.plain import is_free
from filmstrip.kernels.valueless import is_on_cpu

# Pixels of all pictures together up to which a convolution is one product of matrices, and those taken at a time.
FEW_PIXELS, BLOCK_PIXELS = 1024, 512


def convolve(
    hidden_states: Tensor,  # (batch, channels, [frames,] height, width)
    weight: Tensor,
    bias: Tensor | None,
    padding: Sequence[int],
    stride: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
) -> Tensor:
    """A convolution of pictures or videos, with zeros around them.

    For a single video in float32 torch takes a way of its own on a CPU where it holds few rows, or where the kernel is
    a single position; that takes up to five times as long as oneDNN's, which this calls wherever it can. oneDNN in turn
    spends most of the time on reordering the weights where there are many of them and few pixels.
    """
    ones = (1,) * len(padding)
    stride, dilation = stride or ones, dilation or ones
    if len(padding) == 2 and set(dilation) == {1} and takes_onednn(hidden_states, weight):
        if weight.shape[2:] == (1, 1) and set(padding) == {0} and set(stride) == {1}:
            return product(hidden_states.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
        if _is_mostly_weights(hidden_states, weight, padding):
            return _convolve_few_pixels(hidden_states, weight, bias, stride)
    if _leaves_onednn_out(hidden_states, weight):
        return onednn.convolution(hidden_states, weight, bias, padding, stride, dilation)
    plain = F.conv2d if len(padding) == 2 else F.conv3d
    return plain(hidden_states, weight, bias, tuple(stride), tuple(padding), tuple(dilation))


def _is_mostly_weights(hidden_states: Tensor, weight: Tensor, padding: Sequence[int]) -> bool:
    batch, _, height, width = hidden_states.shape
    return (
        weight.shape[2:] == (3, 3)
        and tuple(padding) == (1, 1)
        and batch * height * width <= FEW_PIXELS
        and weight.is_contiguous(memory_format=torch.channels_last)
    )


def _convolve_few_pixels(hidden_states: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int]) -> Tensor:
    """A 3x3 convolution as one product: each pixel's neighbourhood is a row of a matrix, each kernel another's."""
    batch, channels, *size = hidden_states.shape
    height, width = ((extent - 1) // step + 1 for extent, step in zip(size, stride, strict=True))
    padded = F.pad(hidden_states.movedim(1, -1), (0, 0, 1, 1, 1, 1)).contiguous()  # two more rows and columns
    of_picture, of_row, of_pixel, of_channel = padded.stride()
    neighbourhoods = padded.as_strided(
        (batch, height, width, 3, 3, channels),
        (of_picture, stride[0] * of_row, stride[1] * of_pixel, of_row, of_pixel, of_channel),
    )
    kernels = weight.movedim(1, -1).flatten(1)  # (out_channels, 9 * channels)
    parts = [
        product(part.reshape(-1, kernels.shape[1]), kernels, bias).view(*part.shape[:3], -1)
        for part in neighbourhoods.split(max(1, BLOCK_PIXELS // (height * width)))
    ]
    return torch.cat(parts).movedim(-1, 1)  # (batch, out_channels, height, width)


def _leaves_onednn_out(hidden_states: Tensor, weight: Tensor) -> bool:
    return (
        is_free()
        and is_on_cpu(hidden_states)
        and hidden_states.dtype == weight.dtype == torch.float32
        and onednn.has_convolution()
    )
