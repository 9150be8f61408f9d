"""Says from the pixels alone what a clip shows: colour by hue, motion by centroid and area, shape by outline."""

from __future__ import annotations

import colorsys
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.shapes.clips import BACKGROUNDS, SIZE, Combination

HUES = {"red": 0, "orange": 32, "yellow": 55, "green": 128, "cyan": 183, "blue": 228, "purple": 281}  # degrees
# Which harmonic of the distance from centroid to outline tells a shape. Where the outline is sharp it is 0.27, 0.13 and
# 0.33 of the mean distance, and the others are below 0.01; a circle has none of them.
HARMONICS = {"triangle": 3, "square": 4, "star": 5}
ROUND = 0.055
NUM_ANGLES = 90


class Course(NamedTuple):
    """What the motion is judged by; (frames,) each, in pixels of a picture SIZE pixels wide."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    area: NDArray[np.float64]


def judge(frames: NDArray[np.uint8]) -> Combination:
    """What the clip shows; every part is `none` where there is nothing to see.

    Args:
        frames: (frames, height, width, 3).
    """
    video = torch.from_numpy(np.ascontiguousarray(frames)).double()  # (frames, height, width, 3)
    ground = _border(video).median(0).values
    background = min(BACKGROUNDS, key=lambda name: _distance(ground, torch.tensor(BACKGROUNDS[name])))
    contrast = (video - ground).square().sum(-1).sqrt()  # (frames, height, width)
    peak = float(contrast.flatten(1).quantile(0.985, 1).median())
    if peak < 25:
        return Combination("none", "none", "none", background)
    coverage = ((contrast / peak - 0.15) / 0.7).clamp(0, 1)
    colour = colour_of(video[contrast > 0.8 * peak].median(0).values)
    course = _course(coverage)
    shape = shape_of(_harmonics(coverage, course, scale=frames.shape[2] / SIZE))
    return Combination(shape, colour, motion_of(course), background)


def colour_of(rgb: Tensor) -> str:
    """The name of a colour, (3,) from 0 to 255, by its hue."""
    red, green, blue = (rgb / 255).tolist()
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    if lightness > 0.85 or (saturation < 0.25 and lightness > 0.6):
        return "white"
    return min(HUES, key=lambda name: abs((360 * hue - HUES[name] + 180) % 360 - 180))


def shape_of(harmonics: dict[int, float]) -> str:
    """The name of a shape, by the harmonics of its outline as parts of the mean distance."""
    clearest = max(HARMONICS, key=lambda name: harmonics[HARMONICS[name]])
    return clearest if harmonics[HARMONICS[clearest]] > ROUND else "circle"


def motion_of(course: Course) -> str:
    """The name of a motion; a shape that neither moves nor changes its size spins."""
    growth = float(course.area[-2:].mean() / max(1.0, course.area[:2].mean()))
    if growth > 1.5 or growth < 1 / 1.5:
        return "growing" if growth > 1 else "shrinking"
    x, y = course.x - course.x[0], course.y - course.y[0]
    path, height = float(np.abs(np.diff(y)).sum()), float(np.ptp(y))
    if height > 6 and path > 1.7 * height:
        return "bouncing"
    if max(height, float(np.ptp(x))) < 5:
        return "spinning"
    across, upward = float(x[-2:].mean()), float(-y[-2:].mean())
    if abs(across) > abs(upward):
        return "right" if across > 0 else "left"
    return "up" if upward > 0 else "down"


def _border(video: Tensor) -> Tensor:
    """All pixels of the outermost ring, (pixels, 3)."""
    rows, columns = video[:, [0, -1]], video[:, :, [0, -1]]
    return torch.cat([rows.reshape(-1, 3), columns.reshape(-1, 3)])


def _distance(first: Tensor, second: Tensor) -> float:
    return float((first - second).square().sum())


def _course(coverage: Tensor) -> Course:
    _, height, width = coverage.shape
    scale = SIZE / width
    area = coverage.sum((1, 2)).clamp_min(1e-6)
    x = (coverage.sum(1) * torch.arange(width)).sum(1) / area
    y = (coverage.sum(2) * torch.arange(height)).sum(1) / area
    return Course((x * scale).numpy(), (y * scale).numpy(), (area * scale**2).numpy())


def _harmonics(coverage: Tensor, course: Course, scale: float) -> dict[int, float]:
    """Harmonics 3 to 5 of the outline by order, each the median over the frames, as parts of the mean distance."""
    _, height, width = coverage.shape
    angles = torch.arange(NUM_ANGLES) * (2 * math.pi / NUM_ANGLES)
    distances = torch.arange(0, 30, 0.5) * scale
    centre = torch.from_numpy(np.stack([course.x, course.y], -1))[:, None, None] * scale
    rays = torch.stack([angles.cos(), angles.sin()], -1)[:, None] * distances[:, None]  # (angles, distances, 2)
    places = (centre + rays + 0.5) / torch.tensor([width, height]) * 2 - 1
    along = functional.grid_sample(coverage[:, None], places.to(coverage), align_corners=False)[:, 0]
    outline = along.sum(-1)  # (frames, angles)
    spectrum = torch.fft.rfft(outline).abs() / outline.sum(-1, keepdim=True).clamp_min(1e-6)
    return {order: 2 * float(spectrum[:, order].median()) for order in (3, 4, 5)}
