"""Coding a video in overlapping tiles whose seams are blended: the one tiler.

A tile of the input becomes a tile of the output through `code`; sizes and strides are given in input units, and
`scale` says how many output units one input unit makes. Neighbouring tiles are blended linearly over their overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from filmstrip.kernels.valueless import one_of_each

Coder = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tile:
    """One axis of the tiling: the length of a tile and the step from one to the next, in pixels or frames."""

    size: int
    stride: int


Tiles = tuple[Tile, Tile]
"""Rows and columns."""


def exceeds(video: Tensor, tiles: Tiles) -> bool:
    """Whether a video, or a picture, is larger than a tile."""
    rows, columns = tiles
    return video.shape[-2] > rows.size or video.shape[-1] > columns.size


def blend(before: Tensor, after: Tensor, length: int, dim: int) -> Tensor:
    """`after`, with its start mixed with the end of `before`, more of itself at each further position."""
    length = min(before.shape[dim], after.shape[dim], length)
    if length <= 0:
        return after
    shape = [1] * after.dim()
    shape[dim] = length
    weight = (torch.arange(length, device=after.device, dtype=torch.float32) / length).to(after.dtype).view(shape)
    head = torch.lerp(before.narrow(dim, before.shape[dim] - length, length), after.narrow(dim, 0, length), weight)
    return torch.cat([head, after.narrow(dim, length, after.shape[dim] - length)], dim=dim)


def tiled_in_space(code: Coder, video: Tensor, rows: Tile, columns: Tile, ratio: Fraction) -> Tensor:
    """Code tiles of rows and columns and join them.

    Args:
        video: (batch, channels, frames, height, width).
        rows, columns: in input units.
        ratio: output pixels for one input pixel.
    """
    height, width = video.shape[-2:]
    joined_rows: list[Tensor] = []
    row_before: list[Tensor] = []
    sizes: dict[Any, Any] = {}
    blend_rows, blend_columns = int((rows.size - rows.stride) * ratio), int((columns.size - columns.stride) * ratio)
    keep_rows, keep_columns = int(rows.stride * ratio), int(columns.stride * ratio)
    # A rest too small for an output pixel makes no tile: it is part of the tile before.
    smallest = max(1, ratio.denominator // ratio.numerator)
    for top in range(0, height - smallest + 1, rows.stride):
        # Tiles are blended downwards first: the row above is kept as it was blended with its own upper row only.
        row = [
            one_of_each(code, video[..., top : top + rows.size, left : left + columns.size], sizes)
            for left in range(0, width - smallest + 1, columns.stride)
        ]
        if row_before:
            row = [blend(above, tile, blend_rows, -2) for above, tile in zip(row_before, row, strict=True)]
        finished = [row[0]]
        for tile in row[1:]:
            finished.append(blend(finished[-1], tile, blend_columns, -1))
        row_before = finished
        joined_rows.append(torch.cat([tile[..., :keep_rows, :keep_columns] for tile in finished], dim=-1))
    joined = torch.cat(joined_rows, dim=-2)
    return joined[..., : int(height * ratio), : int(width * ratio)]


def tiled_in_time(code: Coder, video: Tensor, frames: Tile, ratio: Fraction, trim: slice) -> Tensor:
    """Code runs of frames, each one frame longer than its tile, and join them.

    Args:
        frames: in input frames.
        ratio: output frames for one input frame; the first frame of a video stands alone.
        trim: the part of every coded run but the first that is kept, since it holds one frame too many.
    """
    num_frames = video.shape[2]
    blend_frames, keep = int((frames.size - frames.stride) * ratio), int(frames.stride * ratio)
    joined: list[Tensor] = []
    before: Tensor | None = None
    for start in range(0, num_frames, frames.stride):
        coded = code(video[:, :, start : start + frames.size + 1])
        if before is not None:
            coded = blend(before, coded[:, :, trim], blend_frames, 2)
        joined.append(coded[:, :, : keep if before is not None else keep + 1])
        before = coded
    return torch.cat(joined, dim=2)[:, :, : int((num_frames - 1) * ratio) + 1]
