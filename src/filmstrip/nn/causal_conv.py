"""Three-dimensional convolutions whose padding in time repeats frames, on whole videos and on streams of chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.kernels.convolution import convolve
from filmstrip.kernels.plain import is_free, is_plain
from filmstrip.kernels.valueless import in_turn, is_on_cpu
from filmstrip.kernels.winograd import TimeConvolution, saves_time, write
from filmstrip.nn.streaming import FrameStream

# Weights that a convolution on the CPU reorders at a time, in bytes.
WEIGHTS_AT_ONCE = 2**24
# Numbers of a strip of rows that is convolved at a time. On a CPU its copies stay near the cache, and small enough for
# the memory of the strip before to be used again.
STRIP_CPU, STRIP_ACCELERATOR, MIN_ROWS = 2**22, 2**27, 8


def repeat_ends(hidden_states: Tensor, before: int, after: int) -> Tensor:
    """A video with its first frame repeated before it and its last one after it.

    (batch, channels, frames, height, width); the result lies channels-last, the layout that convolutions run best on.
    """
    if before == after == 0:
        return hidden_states
    _, channels, frames, height, width = hidden_states.shape
    padded = empty_channels_last(hidden_states, channels, (before + frames + after, height, width))
    padded[:, :, before : before + frames] = hidden_states
    padded[:, :, :before] = hidden_states[:, :, :1]
    padded[:, :, before + frames :] = hidden_states[:, :, -1:]
    return padded


class CausalConv3d(nn.Module):
    """A convolution that sees, in time, only the past (causal) or as far ahead as back; a level of names in files."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int | tuple[int, int, int] = 1,
        is_causal: bool = True,
    ) -> None:
        super().__init__()
        reach = kernel_size - 1
        self.before, self.after = (reach, 0) if is_causal else (reach // 2, reach // 2)
        self.padding = (0, kernel_size // 2, kernel_size // 2)
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride, self.padding)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, in_channels, frames, height, width)
        stream: FrameStream | None = None,
    ) -> Tensor:  # (batch, out_channels, frames / stride, height / stride, width / stride), rounded up
        if stream is None:
            return self.convolve(repeat_ends(hidden_states, self.before, self.after))

        before = 0 if stream.started(self) else self.before
        hidden_states = stream.resume(self, hidden_states)
        if hidden_states.shape[2] > 0:
            hidden_states = repeat_ends(hidden_states, before, self.after if stream.is_last else 0)
            num_outputs = max(0, (hidden_states.shape[2] - self.conv.kernel_size[0]) // self.conv.stride[0] + 1)
            stream.keep(self, hidden_states[:, :, num_outputs * self.conv.stride[0] :])
            if num_outputs:
                return self.convolve(hidden_states)
        batch, _, _, height, width = hidden_states.shape
        _, rows, columns = self.conv.stride
        return hidden_states.new_empty(batch, self.conv.out_channels, 0, -(-height // rows), -(-width // columns))

    @property
    def is_plain(self) -> bool:
        """Whether the convolution may be computed in another way than by calling its layer."""
        return is_plain(self.conv, nn.Conv3d)

    def convolve(self, hidden_states: Tensor) -> Tensor:
        """The convolution alone, of frames that are padded in time already."""
        if not self.is_plain:
            return self.conv(hidden_states)
        _, _, frames, height, width = hidden_states.shape
        num_outputs = frames - self.conv.kernel_size[0] + 1
        # Half types round more that way, which only a caller of `by_rows` knows it can afford.
        if hidden_states.dtype != torch.float32 or not saves_time(hidden_states, self.conv, num_outputs):
            return self._convolve_in_parts(hidden_states, self.padding)
        convolved = empty_channels_last(hidden_states, self.conv.out_channels, (num_outputs, height, width))
        write_rows = TimeConvolution(self.conv)
        for rows in strips(hidden_states, self.conv.out_channels):
            strip = with_neighbours(hidden_states, rows)
            write_rows(channels_last(strip), convolved[:, :, :, rows], False)
        return convolved

    def by_rows(self, hidden_states: Tensor) -> Callable[[Tensor, Tensor, bool], None]:
        """The convolution of strips of a video like this one; a strip is padded in time, and with a row on either side.

        It writes its result into a tensor, or adds it to what is there, as the third argument says.
        """
        if saves_time(hidden_states, self.conv, hidden_states.shape[2]):
            return TimeConvolution(self.conv)

        def write_rows(strip: Tensor, into: Tensor, is_added: bool) -> None:
            write(self._convolve_in_parts(strip, (0, 0, self.padding[2])), into, is_added)

        return write_rows

    def _convolve_in_parts(self, hidden_states: Tensor, padding: tuple[int, int, int]) -> Tensor:
        weight, bias = self.conv.weight, self.conv.bias
        num_parts = -(-weight.nbytes // WEIGHTS_AT_ONCE)
        if num_parts == 1 or bias is None or not is_on_cpu(weight) or not is_free():
            return convolve(hidden_states, weight, bias, padding, self.conv.stride)
        # The CPU's convolution holds two reordered copies of its weights, more than the video of a wide layer takes.
        size = -(-weight.shape[0] // num_parts)
        parts = [
            convolve(hidden_states, *part, padding, self.conv.stride)  # (batch, size, ...)
            for part in zip(weight.split(size), bias.split(size), strict=True)
        ]
        return torch.cat(parts, dim=1)


def strips(hidden_states: Tensor, out_channels: int) -> Iterator[slice]:
    """The rows of a video, as many at a time as a convolution to so many channels works on best."""
    _, channels, frames, height, width = hidden_states.shape
    numbers = STRIP_CPU if is_on_cpu(hidden_states) else STRIP_ACCELERATOR
    step = max(MIN_ROWS, numbers // (max(channels, out_channels) * frames * width))
    for top in in_turn(range(0, height, step), hidden_states):
        yield slice(top, min(top + step, height))


def with_neighbours(video: Tensor, rows: slice) -> Tensor:
    """Some rows of a video and one more on either side, zeros beyond its edges."""
    height = video.shape[3]
    missing = (0, 0, int(rows.start == 0), int(rows.stop == height))
    strip = video[:, :, :, max(rows.start - 1, 0) : rows.stop + 1]
    return F.pad(strip, missing) if any(missing) else strip


def space_to_depth(hidden_states: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Blocks of (frames, rows, columns) folded into channels; channel, frame, row and column, slowest first."""
    frames, rows, columns = size
    blocks = hidden_states.unflatten(4, (-1, columns)).unflatten(3, (-1, rows)).unflatten(2, (-1, frames))
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)


def depth_to_space(hidden_states: Tensor, size: tuple[int, int, int]) -> Tensor:
    """The inverse of `space_to_depth`."""
    blocks = hidden_states.unflatten(1, (-1, *size))  # (batch, channels, block frames, rows, columns, frames, ...)
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def channels_last(hidden_states: Tensor) -> Tensor:
    """The same video, with each position's channels side by side in memory."""
    return hidden_states.contiguous(memory_format=torch.channels_last_3d)


def empty_channels_last(like: Tensor, channels: int, size: tuple[int, int, int]) -> Tensor:
    """Room for as many videos, (batch, channels, *size), with each position's channels side by side in memory."""
    return like.new_empty(like.shape[0], *size, channels).movedim(-1, 1)
