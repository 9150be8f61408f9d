"""Convolutions of videos, whole or in strips of rows. Frames are padded already; rows and columns are, with zeros."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.kernels.convolution import convolve
from filmstrip.kernels.layout import channels_last, empty_channels_last
from filmstrip.kernels.plain import is_free
from filmstrip.kernels.valueless import in_turn, is_on_cpu
from filmstrip.kernels.winograd import TimeConvolution, saves_time, write

# Weights that a convolution on the CPU reorders at a time, in bytes.
WEIGHTS_AT_ONCE = 2**24
# Numbers of a strip of rows that is convolved at a time. On a CPU its copies stay near the cache, and small enough for
# the memory of the strip before to be used again.
STRIP_CPU, STRIP_ACCELERATOR, MIN_ROWS = 2**22, 2**27, 8


def convolve_video(conv: nn.Conv3d, hidden_states: Tensor) -> Tensor:
    """What a layer without padding in time makes of a video."""
    _, _, frames, height, width = hidden_states.shape
    num_outputs = frames - conv.kernel_size[0] + 1
    # Half types round more that way, which only a caller of `rows_writer` knows it can afford.
    if hidden_states.dtype != torch.float32 or not saves_time(hidden_states, conv, num_outputs):
        return _convolved_in_parts(conv, hidden_states, _padding(conv))
    convolved = empty_channels_last(hidden_states, conv.out_channels, (num_outputs, height, width))
    write_rows = TimeConvolution(conv)
    for rows in strips(hidden_states, conv.out_channels):
        strip = with_neighbours(hidden_states, rows)
        write_rows(channels_last(strip), convolved[:, :, :, rows], False)
    return convolved


def rows_writer(conv: nn.Conv3d, hidden_states: Tensor) -> Callable[[Tensor, Tensor, bool], None]:
    """The convolution of strips of a video like this one; a strip is padded in time, and with a row on either side.

    It writes its result into a tensor, or adds it to what is there, as the third argument says.
    """
    if saves_time(hidden_states, conv, hidden_states.shape[2]):
        return TimeConvolution(conv)

    def write_rows(strip: Tensor, into: Tensor, is_added: bool) -> None:
        write(_convolved_in_parts(conv, strip, (0, 0, _padding(conv)[2])), into, is_added)

    return write_rows


def strips(hidden_states: Tensor, out_channels: int) -> Iterator[slice]:
    """The rows of a video, as many at a time as a convolution to so many channels works on best."""
    _, channels, frames, height, width = hidden_states.shape
    numbers = STRIP_CPU if is_on_cpu(hidden_states) else STRIP_ACCELERATOR
    step = max(MIN_ROWS, numbers // (max(channels, out_channels) * frames * width))
    for top in in_turn(range(0, height, step), hidden_states):
        yield slice(top, min(top + step, height))


def _padding(conv: nn.Conv3d) -> tuple[int, int, int]:
    assert not isinstance(conv.padding, str)
    frames, rows, columns = conv.padding
    return frames, rows, columns


def _convolved_in_parts(conv: nn.Conv3d, hidden_states: Tensor, padding: tuple[int, int, int]) -> Tensor:
    weight, bias, geometry = conv.weight, conv.bias, (padding, conv.stride, conv.dilation)
    num_parts = -(-weight.nbytes // WEIGHTS_AT_ONCE)
    if num_parts == 1 or bias is None or not is_on_cpu(weight) or not is_free():
        return convolve(hidden_states, weight, bias, *geometry)
    # The CPU's convolution holds two reordered copies of its weights, more than the video of a wide layer takes.
    size = -(-weight.shape[0] // num_parts)
    parts = [
        convolve(hidden_states, *part, *geometry)  # (batch, size, ...)
        for part in zip(weight.split(size), bias.split(size), strict=True)
    ]
    return torch.cat(parts, dim=1)


def with_neighbours(video: Tensor, rows: slice) -> Tensor:
    """Some rows of a video and one more on either side, zeros beyond its edges."""
    height = video.shape[3]
    missing = (0, 0, int(rows.start == 0), int(rows.stop == height))
    strip = video[:, :, :, max(rows.start - 1, 0) : rows.stop + 1]
    return F.pad(strip, missing) if any(missing) else strip
