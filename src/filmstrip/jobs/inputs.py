"""Pictures and videos that a generation starts from: read first, and known again by their pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filmstrip.jobs.calls import is_clip
from filmstrip.jobs.job import Source

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Input:
    """A picture or a clip, and where it came from."""

    source: str
    """Absolute path, or address."""
    pixels_sha256: str
    """Of its frames as RGB bytes, so that it does not change when a file is only copied or tagged."""
    pictures: list[Image]
    fps: float | None = None
    num_frames: int | None = None
    """How many of a clip's frames are taken; None takes all."""
    is_edges: bool = False
    """Whether the edges of the pictures are what counts."""
    fit: str = "crop"
    """How the pictures get the video's proportions, one of `filmstrip.media.framing.FITS`."""

    @property
    def record(self) -> dict[str, object]:
        """What is written down with a video, for `source_of`; of an address what opens it is left out."""
        from filmstrip.media.places import public_address

        record: dict[str, object] = {
            "source": public_address(self.source),
            "pixels_sha256": self.pixels_sha256,
            "fit": self.fit,
        }
        more = {"num_frames": self.num_frames, "is_edges": self.is_edges or None}
        return record | {name: value for name, value in more.items() if value is not None}

    def first(self, num_frames: int) -> Input:
        """The same clip, shorter."""
        if not 1 <= num_frames <= len(self.pictures):
            from filmstrip.media.places import public_address

            shown = public_address(self.source)
            raise ValueError(f"{shown} has {len(self.pictures)} frames, {num_frames} were asked for; ask for fewer.")
        pictures = self.pictures[:num_frames]
        return replace(self, pictures=pictures, pixels_sha256=_digest(pictures), num_frames=num_frames)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pictures[0].size


def read_input(name: str, source: Source) -> Input:
    """The picture or clip of a source.

    Args:
        name: the argument that takes it.

    Raises:
        ValueError: there is none, it can't be read, or its pixels are not those that it must have.
    """
    from filmstrip.media.framing import check_fit
    from filmstrip.media.places import is_address, public_address

    place, shown, is_web = source.place, public_address(source.place), is_address(source.place)
    fit = check_fit(source.fit)
    if source.made is not None and not is_web and not Path(place).exists():
        raise ValueError(f"the {name} {shown}, which {source.made} was made with, is gone; put it back.")
    pictures, fps = _clip(source, is_web) if is_clip(name) else (_picture(place), None)
    found = place if is_web else str(Path(place).absolute())
    digest = _digest(pictures)
    if source.pixels_sha256 not in (None, digest):
        since = f"{source.made} was made with it" if source.made is not None else "it was given"
        raise ValueError(f"the {name} {shown} has changed since {since}; put the old one back.")
    return Input(found, digest, pictures, fps, source.num_frames, source.is_edges, fit)


def _picture(place: str) -> list[Image]:
    from filmstrip.media import load_image

    return [load_image(place)]


def _clip(source: Source, is_remote: bool) -> tuple[list[Image], float | None]:
    from PIL import Image

    from filmstrip.media import load_video, read_video

    if is_remote:
        pictures, fps = load_video(source.place, return_fps=True, num_frames=source.num_frames)
        return pictures, fps
    frames, fps = read_video(source.place, source.num_frames)
    return [Image.fromarray(frame) for frame in frames], fps


def _digest(pictures: list[Image]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(repr(picture.size).encode())
        digest.update(picture.tobytes())
    return digest.hexdigest()
