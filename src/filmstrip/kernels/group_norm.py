"""Group normalisation (arXiv:1803.08494) of videos as one multiplication and one addition, in portions.

A video is (batch, channels, frames, height, width) with each position's channels side by side in memory. Statistics
and products are in float32 for every type of video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from filmstrip.kernels.plain import is_free
from filmstrip.kernels.valueless import in_turn, is_on_cpu

# Numbers worked on at a time: what stays in the caches of a core, or what an accelerator finds worth a call.
PORTION_CPU, PORTION_ACCELERATOR = 2**18, 2**26


def portion(tensor: Tensor) -> int:
    """How many numbers to work on at a time, where this tensor lives."""
    return PORTION_CPU if is_on_cpu(tensor) else PORTION_ACCELERATOR


def group_moments(hidden_states: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of each group of channels, over all positions: two tensors (batch, groups), float32."""
    if is_free():
        moments = [_moments_in_portions(video, num_groups) for video in hidden_states]
        return torch.stack([mean for mean, _ in moments]), torch.stack([variance for _, variance in moments])
    grouped = hidden_states.float().unflatten(1, (num_groups, -1)).flatten(2)
    variance, mean = torch.var_mean(grouped, dim=2, correction=0)
    return mean, variance


def _moments_in_portions(video: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    positions = video.movedim(0, -1).flatten(0, 2)  # (positions, channels)
    moments = Moments()
    for part in in_turn(positions.split(max(1, portion(video) // positions.shape[1])), video):
        moments.add(part)
    mean, variance = moments.of_groups(num_groups)
    return mean[0], variance[0]


class Moments:
    """Mean and variance of the channels of one video, added up in portions."""

    def __init__(self) -> None:
        self._pivot: Tensor | None = None
        self._sums: list[Tensor] = []
        self._squares: list[Tensor] = []
        self._count = 0

    def add(self, positions: Tensor) -> None:
        """Further positions, (positions, channels)."""
        values = positions.float()
        if self._pivot is None:
            # Deviations from a value near the mean: squares of the values themselves would cancel.
            self._pivot = values.mean(dim=0)
        deviation = values - self._pivot  # (positions, channels), float32
        self._sums.append(deviation.sum(dim=0))
        self._squares.append(deviation.square_().sum(dim=0))
        self._count += len(positions)

    def of_groups(self, num_groups: int) -> tuple[Tensor, Tensor]:
        """As `group_moments` gives them, of all that was added; each (1, groups)."""
        assert self._pivot is not None, "moments of nothing"
        deviation = torch.stack(self._sums).sum(dim=0) / self._count  # (channels,), of each channel's mean
        spread = torch.stack(self._squares).sum(dim=0) / self._count - deviation.square()  # each channel's variance
        means = (self._pivot + deviation).unflatten(0, (num_groups, -1))
        mean = means.mean(dim=1)
        variance = (spread.unflatten(0, (num_groups, -1)) + (means - mean[:, None]).square()).mean(dim=1)
        return mean[None], variance[None]


@dataclass(frozen=True)
class Affine:
    """`scale * x + shift`, float32, each (batch, channels, frames or 1, rows or 1, columns or 1).

    Rows and columns may be a fraction of the video's: each value then stands for a square of positions.
    """

    scale: Tensor
    shift: Tensor

    @classmethod
    def of_norm(cls, norm: nn.GroupNorm, hidden_states: Tensor) -> Affine:
        """What a group normalisation with its learned scale and shift does to this video."""
        return cls.of_moments(norm, *group_moments(hidden_states, norm.num_groups))

    @classmethod
    def of_moments(cls, norm: nn.GroupNorm, mean: Tensor, variance: Tensor) -> Affine:
        """The same where the moments, as `group_moments` gives them, are known."""
        size = norm.num_channels // norm.num_groups
        scale = torch.rsqrt(variance + norm.eps).repeat_interleave(size, dim=1) * norm.weight.float()
        shift = norm.bias.float() - mean.repeat_interleave(size, dim=1) * scale
        return cls(scale[:, :, None, None, None], shift[:, :, None, None, None])

    def then(self, scale: Tensor, shift: Tensor) -> Affine:
        """This, and after it `scale * x + shift`."""
        return Affine(self.scale * scale, torch.addcmul(shift, self.shift, scale))

    def rows(self, rows: slice, height: int) -> Affine:
        """What is done to some rows of a video of this height."""
        coarse = self.scale.shape[3]
        if coarse == 1:
            return self
        of_rows = [row * coarse // height for row in range(rows.start, rows.stop)]
        return Affine(self.scale[:, :, :, of_rows], self.shift[:, :, :, of_rows])

    def __call__(self, hidden_states: Tensor) -> Tensor:
        """The video, scaled and shifted, float32."""
        rows, columns = self.scale.shape[3:]
        blocks = hidden_states.float().unflatten(4, (columns, -1)).unflatten(3, (rows, -1))
        scale, shift = (value[:, :, :, :, None, :, None] for value in (self.scale, self.shift))
        return torch.addcmul(shift, blocks, scale).flatten(5, 6).flatten(3, 4)


def write_activated(
    into: Tensor, hidden_states: Tensor, affine: Affine, activation: Callable[[Tensor], Tensor]
) -> None:
    """Write the activation of a normalised video into a tensor of its size, which may be the video itself."""
    for rows, part in _row_portions(hidden_states, affine):
        into[:, :, :, rows] = activation(part(hidden_states[:, :, :, rows]))


def _row_portions(hidden_states: Tensor, affine: Affine) -> Iterator[tuple[slice, Affine]]:
    coarse = affine.scale.shape[3]
    size = hidden_states.shape[3] // coarse if coarse > 1 else 1
    total = hidden_states.shape[3] // size
    step = max(1, portion(hidden_states) * total // hidden_states.numel())
    for start in in_turn(range(0, total, step), hidden_states):
        stop = min(start + step, total)
        part = affine
        if coarse > 1:
            part = Affine(affine.scale[:, :, :, start:stop], affine.shift[:, :, :, start:stop])
        yield slice(start * size, stop * size), part
