"""How visible the seams between tiles are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def waves(channels: int, frames: int, height: int, width: int, length: float, seed: int = 0) -> Tensor:
    """Smooth content, alike everywhere: sums of plane waves that are so long, (1, channels, frames, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.arange(height)[:, None] / length, torch.arange(width)[None] / length
    times = torch.arange(frames)[:, None, None] / 12
    found = torch.zeros(channels, frames, height, width)
    for channel in found:
        for stretch in (1.0, 0.7):
            angle, phase = torch.rand(2, generator=generator).tolist()
            way = rows * math.cos(2 * math.pi * angle) + columns * math.sin(2 * math.pi * angle)
            channel += stretch * torch.sin(2 * math.pi * (stretch * way + phase + times))
    return found[None]


def border_gradient_ratio(video: Tensor, zones: Sequence[Sequence[tuple[int, int]]], period: int, margin: int) -> float:
    """The mean gradient where tiles overlap or meet, by that elsewhere; along rows and columns alike.

    Networks that fold pixels into channels leave a pattern of their own, so that each line is compared with lines of
    the same place in the pattern.

    Args:
        video: (batch, channels, frames, height, width), as high as wide.
        zones: along rows and along columns, where each overlap begins and ends.
        period: of the pattern.
        margin: lines at the border of the picture that do not count as elsewhere.
    """
    there = expected = 0.0
    for axis, along in zip((-2, -1), zones, strict=True):
        gradient = video.double().diff(dim=axis).abs().movedim(axis, 0).flatten(1).mean(1)
        in_zone = torch.zeros(len(gradient), dtype=torch.bool)
        for begin, end in along:
            in_zone[begin - 1 : end + 1] = True
        inside = torch.zeros_like(in_zone)
        inside[margin : len(gradient) - margin] = True
        for phase in range(period):
            lines = torch.arange(len(gradient)) % period == phase
            there += float(gradient[lines & in_zone].sum())
            expected += float(gradient[lines & inside & ~in_zone].mean()) * int((lines & in_zone).sum())
    return there / expected
