"""Clips of one moving shape, drawn by distance functions: the data that the model `shapes` is trained on."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

SIZE = 64  # pixels, height and width
NUM_FRAMES = 17
FRAME_RATE = 8

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = {
    "red": (230, 25, 30),
    "green": (30, 180, 50),
    "blue": (30, 75, 255),
    "yellow": (250, 230, 30),
    "orange": (255, 135, 0),
    "purple": (150, 35, 205),
    "white": (250, 250, 250),
    "cyan": (0, 220, 230),
}
MOTIONS = ("left", "right", "up", "down", "growing", "shrinking", "spinning", "bouncing")
BACKGROUNDS = {"black": (4, 4, 4), "gray": (128, 128, 128), "navy": (8, 12, 110), "brown": (112, 64, 26)}

# The outline of a shape with k tips is one straight edge, folded 2k times: from a tip at the outer radius to the
# point half-way to the next tip, at the inner radius. Per shape: tips, outer and inner radius, angle of a tip.
OUTLINES = {
    "circle": (1, 1.0, 1.0, 0.0),
    "square": (4, 1.22, 1.22 * math.cos(math.pi / 4), math.pi / 4),
    "triangle": (3, 1.4, 1.4 * math.cos(math.pi / 3), math.pi / 2),
    "star": (5, 1.45, 1.45 * 0.42, math.pi / 2),
}
MARGIN = 2.0  # pixels between a shape and the border of the picture; sharp tips reach a little further than said


class Combination(NamedTuple):
    """What a clip shows; a prompt names these four."""

    shape: str
    colour: str
    motion: str
    background: str


COMBINATIONS = tuple(Combination(*row) for row in itertools.product(SHAPES, COLOURS, MOTIONS, BACKGROUNDS))


def split() -> tuple[list[Combination], list[Combination]]:
    """The combinations to train on and the tenth that is held out, the same at every call."""
    shuffled = list(COMBINATIONS)
    random.Random("shapes held out").shuffle(shuffled)
    num_held_out = len(shuffled) // 10
    return shuffled[num_held_out:], shuffled[:num_held_out]


@dataclass(frozen=True)
class Course:
    """Where a shape is in every frame: (frames, 2) centres as x and y in pixels, (frames,) radii and angles."""

    centres: Tensor
    radii: Tensor
    angles: Tensor


def draw_course(combination: Combination, rng: random.Random, num_frames: int = NUM_FRAMES) -> Course:
    """A course of the given motion that keeps the shape inside the picture; `rng` decides size, place and speed.

    A course always lasts as long as NUM_FRAMES frames; a longer or shorter clip shows it slower or faster.
    """
    motion = combination.motion
    outer = OUTLINES[combination.shape][1]
    time = torch.linspace(0, 1, num_frames) if num_frames > 1 else torch.zeros(1)
    radius = {"spinning": rng.uniform(10, 15), "bouncing": rng.uniform(8.5, 12)}.get(motion, rng.uniform(9, 12.5))
    offsets, radii, angles = torch.zeros(num_frames, 2), torch.full((num_frames,), radius), torch.zeros(num_frames)
    if motion in ("growing", "shrinking"):
        start = rng.uniform(6.5, 9.5)
        end = start * rng.uniform(1.8, min(2.5, 20 / start))
        radii = start * (end / start) ** (time if motion == "growing" else 1 - time)
    elif motion == "spinning":
        angles = rng.choice((-1, 1)) * math.radians(rng.uniform(120, 180)) * time
    elif motion == "bouncing":
        room = SIZE - 2 * (outer * radius + MARGIN)
        height = rng.uniform(14, min(21, room))
        phase = rng.choice((0.0, 0.5))
        offsets[:, 1] = -height * (math.pi * (phase + rng.uniform(1.9, 2.1) * time)).sin().abs()
    else:
        room = SIZE - 2 * (outer * radius + MARGIN)
        travel = rng.uniform(20, max(20.0, room)) if rng.random() < 0.8 else rng.uniform(14, 20)
        direction = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[motion]
        offsets = min(travel, room) * time[:, None] * torch.tensor(direction, dtype=torch.float32)
    return Course(offsets + _place(offsets, outer * radii, rng), radii, angles)


def _place(offsets: Tensor, extents: Tensor, rng: random.Random) -> Tensor:
    """A start, (2,), from which the whole course stays inside the picture; every such start is as likely."""
    room = (extents[:, None] + MARGIN).expand_as(offsets)
    lowest, highest = (room - offsets).amax(0).tolist(), (SIZE - room - offsets).amin(0).tolist()
    return torch.tensor([rng.uniform(low, max(low, high)) for low, high in zip(lowest, highest, strict=True)])


def paint(
    shapes: Sequence[str],
    courses: Sequence[Course],
    colours: Tensor,  # (batch, 3), 0 to 255
    backgrounds: Tensor,  # (batch, 3), 0 to 255
) -> Tensor:  # (batch, 3, frames, height, width) in [-1, 1]
    """Paint the shapes along their courses, edges antialiased over one pixel."""
    tips, outer, inner, turned = torch.tensor([OUTLINES[shape] for shape in shapes]).T[..., None, None, None]
    centres = torch.stack([course.centres for course in courses])  # (batch, frames, 2)
    radii = torch.stack([course.radii for course in courses])[..., None, None]
    angles = torch.stack([course.angles for course in courses])[..., None, None]
    pixels = torch.arange(SIZE) + 0.5
    x = pixels[None, None, None, :] - centres[..., 0, None, None]
    y = pixels[None, None, :, None] - centres[..., 1, None, None]
    distance = (x.square() + y.square()).sqrt()  # (batch, frames, height, width)
    sector = math.pi / tips
    folded = (torch.remainder(torch.atan2(-y, x) - turned - angles + sector, 2 * sector) - sector).abs()
    along, across = distance * folded.cos(), distance * folded.sin()
    edge_x, edge_y = inner * sector.cos() - outer, inner * sector.sin()
    outside = (along - outer * radii) * edge_y - across * edge_x  # signed, times the edge's length
    signed = torch.where(tips == 1, distance - outer * radii, outside / (edge_x.square() + edge_y.square()).sqrt())
    coverage = (0.5 - signed).clamp(0, 1)[:, None]
    back, front = (rgb[:, :, None, None, None] / 127.5 - 1 for rgb in (backgrounds, colours))
    return back + (front - back) * coverage


def draw(combinations: Sequence[Combination], rng: random.Random, num_frames: int = NUM_FRAMES) -> Tensor:
    """One clip of each combination, (batch, 3, frames, height, width) in [-1, 1]; `rng` decides all that is open."""
    courses = [draw_course(combination, rng, num_frames) for combination in combinations]
    colours = torch.tensor([COLOURS[combination.colour] for combination in combinations], dtype=torch.float32)
    backgrounds = torch.tensor([BACKGROUNDS[combination.background] for combination in combinations]).float()
    return paint(
        [combination.shape for combination in combinations], courses, _vary(colours, rng), _vary(backgrounds, rng)
    )


def _vary(colours: Tensor, rng: random.Random) -> Tensor:
    """The colours (0 to 255), each channel a little off, so that a picture drawn elsewhere is nothing new."""
    noise = torch.tensor([[rng.uniform(-8, 8) for _ in row] for row in colours])
    return (colours + noise).clamp(0, 255)
