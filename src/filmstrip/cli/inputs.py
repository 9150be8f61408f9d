"""Pictures and videos that a generation starts from: read first, and known again by their pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Input:
    """A picture or a clip, and where it came from."""

    source: str
    """Absolute path, or address."""
    pixels_sha256: str
    """Of its frames as RGB bytes, so that it does not change when a file is only copied or tagged."""
    pictures: list[Any]
    fps: float | None = None
    num_frames: int | None = None
    """How many of a clip's frames are taken; None takes all."""
    is_edges: bool = False
    """Whether the edges of the pictures are what counts."""

    @property
    def record(self) -> dict[str, Any]:
        """What is written down with a video, for `read_recorded`."""
        record: dict[str, Any] = {"source": self.source, "pixels_sha256": self.pixels_sha256}
        more = {"num_frames": self.num_frames, "is_edges": self.is_edges or None}
        return record | {name: value for name, value in more.items() if value is not None}

    def first(self, num_frames: int) -> Input:
        """The same clip, shorter."""
        if not 1 <= num_frames <= len(self.pictures):
            raise ValueError(f"{self.source} has {len(self.pictures)} frames, {num_frames} were asked for.")
        pictures = self.pictures[:num_frames]
        return replace(self, pictures=pictures, pixels_sha256=_digest(pictures), num_frames=num_frames)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pictures[0].size


def read_input(name: str, source: str, num_frames: int | None = None, *, is_edges: bool = False) -> Input:
    """The picture ("image") or clip ("video", "control_video") at a path or address.

    Args:
        num_frames, is_edges: see `Input`.

    Raises:
        ValueError: there is none, or it can't be read.
    """
    from filmstrip.media import load_image, load_video, read_video

    is_address = source.startswith(("http://", "https://"))
    place = source if is_address else str(Path(source).absolute())
    fps = None
    if name == "image":
        if not is_address and Path(source).is_dir():
            raise ValueError(f"{source} is a folder, not a picture; name one file.")
        pictures = [load_image(source)]
    elif is_address:
        pictures, fps = load_video(source, return_fps=True, num_frames=num_frames)
    else:
        from PIL import Image

        frames, fps = read_video(source, num_frames)
        pictures = [Image.fromarray(frame) for frame in frames]
    return Input(place, _digest(pictures), pictures, fps, num_frames, is_edges)


def read_recorded(name: str, record: Mapping[str, Any], made: Path) -> Input:
    """The same picture or clip again, for a video that was made with it.

    Raises:
        ValueError: it is gone, or its pixels have changed.
    """
    source = str(record.get("source", ""))
    if not source.startswith(("http://", "https://")) and not Path(source).exists():
        raise ValueError(f"the {name} {source}, which {made} was made with, is gone; put it back.")
    found = read_input(name, source, record.get("num_frames"), is_edges=bool(record.get("is_edges")))
    if found.pixels_sha256 != record.get("pixels_sha256"):
        raise ValueError(f"the {name} {source} has changed since {made} was made with it; put the old one back.")
    return found


def _digest(pictures: list[Any]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(repr(picture.size).encode())
        digest.update(picture.tobytes())
    return digest.hexdigest()
