"""A contact sheet: the course of a video in one picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from filmstrip.media.pixels import to_uint8_frames

_GAP = 4
_MOST_FRAMES = 16


def contact_sheet(
    frames: Any, columns: int | None = None, width: int = 1024, max_frames: int = _MOST_FRAMES
) -> Image.Image:
    """A grid of evenly spaced frames, the first and the last among them, at most `width` pixels wide.

    Args:
        frames: one video in any form that `to_uint8_frames` takes; frames are made smaller where needed, never larger.
        columns: None stands for a grid as many frames high as wide.
    """
    if max_frames < 1 or (columns is not None and columns < 1):
        raise ValueError(f"a contact sheet needs at least one frame and column, got {max_frames} and {columns}.")
    video = list(to_uint8_frames(frames))
    chosen = np.linspace(0, len(video) - 1, min(len(video), max_frames)).round().astype(int)
    columns = min(columns or math.ceil(math.sqrt(len(chosen))), len(chosen))
    rows = math.ceil(len(chosen) / columns)
    frame_height, frame_width = video[0].shape[:2]
    scale = min(1.0, (width - _GAP * (columns + 1)) / (columns * frame_width))
    if scale * frame_width < 1:
        raise ValueError(f"{columns} columns do not fit into a width of {width} pixels; give fewer columns.")
    tile = (round(scale * frame_width), max(1, round(scale * frame_height)))
    sheet = Image.new("RGB", (columns * (tile[0] + _GAP) + _GAP, rows * (tile[1] + _GAP) + _GAP), "white")
    for place, index in enumerate(chosen):
        row, column = divmod(place, columns)
        picture = Image.fromarray(video[index]).resize(tile, Image.Resampling.LANCZOS)
        sheet.paste(picture, (_GAP + column * (tile[0] + _GAP), _GAP + row * (tile[1] + _GAP)))
    return sheet
