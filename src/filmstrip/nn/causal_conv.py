"""Three-dimensional convolutions that see only the past in time, on whole videos and on streams of chunks."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.json_files import shown
from filmstrip.kernels.layers import Conv3d
from filmstrip.kernels.layout import empty_channels_last
from filmstrip.kernels.plain import is_plain
from filmstrip.kernels.video_convolution import convolve_video
from filmstrip.nn.streaming import FrameStream

Triple = tuple[int, int, int]
"""Of frames, rows and columns."""
TIME_PADDINGS = ("replicate", "zeros", "none")
SPACE_PADDINGS = ("zeros", "replicate", "reflect")


class CausalConv3d(nn.Module):
    """A convolution that sees, in time, only the past (causal) or as far ahead as back; a level of names in files.

    It pads in time, and in space where zeros won't do, for the layer that it holds.

    Args:
        time_padding: beyond the first frame and the last one these are repeated ("replicate"), or are "zeros"; with
            "none" only frames come out for which there are enough.
        space_padding: beyond the edges of a frame there are "zeros", its edge ("replicate") or its rows and columns
            the other way round ("reflect").
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Triple = 3,
        stride: int | Triple = 1,
        is_causal: bool = True,
        dilation: int | Triple = 1,
        time_padding: str = "replicate",
        space_padding: str = "zeros",
    ) -> None:
        for name, value, known in (
            ("time_padding", time_padding, TIME_PADDINGS),
            ("space_padding", space_padding, SPACE_PADDINGS),
        ):
            if value not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, got {shown(value)}.")
        kernel, steps, gaps = _triple(kernel_size), _triple(stride), _triple(dilation)
        reach, rows, columns = (gap * (extent - 1) for gap, extent in zip(gaps, kernel, strict=True))
        margins = rows // 2, columns // 2
        self._build(in_channels, out_channels, kernel, steps, (0, *margins) if space_padding == "zeros" else 0, gaps)
        self.out_channels, self.steps, self.margins = out_channels, steps, margins
        self.size = reach + 1, rows + 1, columns + 1  # frames, rows and columns that one output is computed from
        self.before, self.after = (reach, 0) if is_causal else (reach // 2, reach // 2)
        if time_padding == "none":
            self.before = self.after = 0
        self.time_padding, self.space_padding = time_padding, space_padding

    def _build(self, *arguments: Any) -> None:
        """Make the layer, with the arguments of `nn.Conv3d`."""
        super().__init__()
        self.conv = Conv3d(*arguments)

    @property
    def layer(self) -> nn.Conv3d:
        """The convolution."""
        return self.conv

    @property
    def is_plain(self) -> bool:
        """Whether the convolution may be computed in another way than by calling its layer."""
        return is_plain(self.layer, nn.Conv3d)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, in_channels, frames, height, width)
        stream: FrameStream | None = None,
    ) -> Tensor:  # (batch, out_channels, frames / stride, height / stride, width / stride), rounded up
        if stream is None:
            return self.convolve(self._padded(hidden_states, self.before, self.after))

        before = 0 if stream.started(self) else self.before
        hidden_states = stream.resume(self, hidden_states)
        if hidden_states.shape[2] > 0:
            hidden_states = self._padded(hidden_states, before, self.after if stream.is_last else 0)
            num_outputs = max(0, (hidden_states.shape[2] - self.size[0]) // self.steps[0] + 1)
            stream.keep(self, hidden_states[:, :, num_outputs * self.steps[0] :])
            if num_outputs:
                return self.convolve(hidden_states)
        height, width = (
            (extent + 2 * margin - size) // step + 1
            for extent, margin, size, step in zip(
                hidden_states.shape[3:], self.margins, self.size[1:], self.steps[1:], strict=True
            )
        )
        return hidden_states.new_empty(len(hidden_states), self.out_channels, 0, height, width)

    def convolve(self, hidden_states: Tensor) -> Tensor:
        """The convolution alone, of frames that are padded in time already."""
        rows, columns = self.margins
        if self.space_padding != "zeros" and any(self.margins):
            hidden_states = F.pad(hidden_states, (columns, columns, rows, rows, 0, 0), self.space_padding)
        return convolve_video(self.layer, hidden_states) if self.is_plain else self.layer(hidden_states)

    def _padded(self, hidden_states: Tensor, before: int, after: int) -> Tensor:
        if self.time_padding == "zeros":
            return F.pad(hidden_states, (0, 0, 0, 0, before, after)) if before or after else hidden_states
        return repeat_ends(hidden_states, before, after)


class BareCausalConv3d(CausalConv3d, Conv3d):
    """As `CausalConv3d`, without a level of names of its own."""

    def _build(self, *arguments: Any) -> None:
        Conv3d.__init__(self, *arguments)

    @property
    def layer(self) -> nn.Conv3d:
        return self

    @property
    def is_plain(self) -> bool:
        return True  # what watches this layer watches all that it does


def _triple(value: int | Triple) -> Triple:
    return (value, value, value) if isinstance(value, int) else value


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


def space_to_depth(hidden_states: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Blocks of (frames, rows, columns) folded into channels; channel, frame, row and column, slowest first."""
    frames, rows, columns = size
    blocks = hidden_states.unflatten(4, (-1, columns)).unflatten(3, (-1, rows)).unflatten(2, (-1, frames))
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)


def depth_to_space(hidden_states: Tensor, size: tuple[int, int, int]) -> Tensor:
    """The inverse of `space_to_depth`."""
    blocks = hidden_states.unflatten(1, (-1, *size))  # (batch, channels, block frames, rows, columns, frames, ...)
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)
