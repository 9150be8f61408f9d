"""Three-dimensional convolutions whose padding in time repeats frames, on whole videos and on streams of chunks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.nn.streaming import FrameStream
from filmstrip.nn.winograd import convolve_in_time, saves_time

# Weights that a convolution on the CPU reorders at a time, in bytes.
WEIGHTS_AT_ONCE = 2**24


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

    def convolve(self, hidden_states: Tensor, added_to: Tensor | None = None) -> Tensor:
        """The convolution alone, of frames that are padded in time already, perhaps added to others in place."""
        if saves_time(hidden_states, self.conv) and self.conv.bias is not None:
            return convolve_in_time(channels_last(hidden_states), self.conv.weight, self.conv.bias, added_to)
        convolved = self._convolve_in_parts(hidden_states)
        return convolved if added_to is None else added_to.add_(convolved)

    def _convolve_in_parts(self, hidden_states: Tensor) -> Tensor:
        weight, bias = self.conv.weight, self.conv.bias
        num_parts = -(-weight.nbytes // WEIGHTS_AT_ONCE)
        if (
            num_parts == 1
            or bias is None
            or weight.device.type != "cpu"
            or torch.is_grad_enabled()
            or torch.compiler.is_compiling()
        ):
            return self.conv(hidden_states)
        # The CPU's convolution holds two reordered copies of its weights, more than the video of a wide layer takes.
        size = -(-weight.shape[0] // num_parts)
        parts = [
            F.conv3d(hidden_states, *part, self.conv.stride, self.padding)  # (batch, size, ...)
            for part in zip(weight.split(size), bias.split(size), strict=True)
        ]
        return torch.cat(parts, dim=1)


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
