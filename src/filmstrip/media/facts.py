"""What our own files say of themselves, as far as it makes sense: the file itself is believed before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from filmstrip.media.timing import sane_rate

FILE_KEY = "_file"
"""The writer's own facts lie under this key of a record, beside the caller's."""
_LARGEST = 1 << 16


@dataclass(frozen=True)
class FileFacts:
    """The writer's facts; None stands for what is not said, or makes no sense."""

    width: int | None = None
    height: int | None = None
    fps: Fraction | None = None
    num_frames: int | None = None
    coded: tuple[int, int] | None = None
    """Width and height with what was added to the right and below."""

    def true_size(self, width: int, height: int) -> tuple[int, int]:
        """The width and height that count of frames that are coded in this size.

        The record counts only where the frames have the size that it says: a copy may have been scaled since.
        """
        if self.width is None or self.height is None or self.coded != (width, height):
            return width, height
        is_sane = self.width <= width and self.height <= height
        return (self.width, self.height) if is_sane else (width, height)


def facts_of(record: Mapping[str, Any] | None) -> FileFacts:
    """The writer's facts in a record, which may be anybody's."""
    said = (record or {}).get(FILE_KEY)
    if not isinstance(said, Mapping):
        return FileFacts()
    coded = said.get("coded")
    sides = [_count(side) for side in coded] if isinstance(coded, list) and len(coded) == 2 else []
    width, height = sides if all(sides) and sides else (None, None)
    rate = said.get("fps")
    return FileFacts(
        width=_count(said.get("width")),
        height=_count(said.get("height")),
        fps=sane_rate(rate) if isinstance(rate, (str, int, float)) and not isinstance(rate, bool) else None,
        num_frames=_count(said.get("num_frames")),
        coded=None if width is None or height is None else (width, height),
    )


def _count(value: object) -> int | None:
    return value if type(value) is int and 1 <= value <= _LARGEST else None
