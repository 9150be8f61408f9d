"""The frames of pictures: animations, still ones, and folders of them."""

from __future__ import annotations

import re
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from filmstrip.media.facts import FileFacts
from filmstrip.media.levels import Say, to_rgb, with_own_alpha
from filmstrip.media.opening import open_picture, picture_suffixes
from filmstrip.media.timing import Steady, rate_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

_TICK = 0.01  # of GIF; WebP and PNG have finer ones


def read_animation(
    path: Path, shown: str, facts: FileFacts, num_frames: int | None, tell: Say
) -> tuple[list[Pixels], float | None]:
    """The frames of an animation, or the one of a picture, and how many there are a second.

    The arguments are those of `read_container`.
    """
    pictures, durations = _stored(path, shown)
    frames = [np.asarray(to_rgb(picture, tell)) for picture in pictures]
    if not sum(durations) > 0:
        if len(frames) > 1 or facts.fps is None or facts.num_frames is None:
            return frames[:num_frames], None
        durations = [facts.num_frames / float(facts.fps)]  # a video that does not move is stored as one picture
    begins = [0.0, *accumulate(durations[:-1])]
    if facts.fps is not None and _is_ours(begins, sum(durations), facts):
        # Equal neighbours are stored as one frame that is shown for longer.
        whole = list(Steady(facts.fps, facts.num_frames).take(zip(begins, frames, strict=True), durations[-1]))
        whole += [frames[-1]] * ((facts.num_frames or 0) - len(whole))
        return whole[:num_frames], float(facts.fps)
    fps = rate_of([*begins, sum(durations)], (), _TICK)
    if fps is None:
        return frames[:num_frames], None
    steady = Steady(fps)
    taken = list(steady.take(zip(begins, frames, strict=True), durations[-1]))
    steady.tell_of(shown, tell)
    return taken[:num_frames], float(fps)


def _stored(path: Path, shown: str) -> tuple[list[Image.Image], list[float]]:
    """The stored frames, upright, and how long each is shown, in seconds."""
    pictures, durations = [], []
    with open_picture(path, "video", shown) as animation:
        for picture in ImageSequence.Iterator(animation):
            pictures.append(with_own_alpha(ImageOps.exif_transpose(picture)))
            # WebP knows it only after the pixels.
            durations.append(max(0.0, float(picture.info.get("duration") or 0)) / 1000)
    return pictures, durations


def _is_ours(begins: list[float], seconds: float, facts: FileFacts) -> bool:
    """Whether an animation still has the times that it was written with."""
    if facts.fps is None or facts.num_frames is None:
        return False
    rate = float(facts.fps)
    is_whole = abs(seconds * rate - facts.num_frames) <= 1 + _TICK * rate
    return is_whole and all(abs(begin - round(begin * rate) / rate) <= _TICK for begin in begins)


# ---- folders ---------------------------------------------------------------------------------------------------------


def pictures_in(folder: Path) -> list[Path]:
    """The files of a folder that claim to be pictures, in the order of their names with numbers as numbers.

    Hidden files are left out: systems put files of their own into folders, such as `._frame_1.png`.
    """
    suffixes = picture_suffixes()
    names = (path for path in folder.iterdir() if not path.name.startswith(".") and path.suffix.lower() in suffixes)
    return sorted((path for path in names if not path.is_dir()), key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts if part], path.name


def read_folder(folder: Path, num_frames: int | None, tell: Say) -> list[Pixels]:
    """The pictures of a folder as the frames of a video."""
    names = pictures_in(folder)
    if not names:
        raise ValueError(f"the folder {folder} holds no pictures; name a video, or a folder of frames.")
    frames: list[Pixels] = []
    for name in names[:num_frames]:
        frame = np.asarray(to_rgb(read_upright(name), tell))
        if frames and frame.shape != frames[0].shape:
            first, other = (f"{one.shape[1]}x{one.shape[0]}" for one in (frames[0], frame))
            raise ValueError(
                f"the pictures in {folder} differ in size, so they are not the frames of one video: {names[0].name} is "
                f"{first}, {name.name} is {other}."
            )
        frames.append(frame)
    return frames


def read_upright(path: Path, shown: str | None = None) -> Image.Image:
    """A picture as it is stored, upright."""
    with open_picture(path, shown=shown) as picture:
        return with_own_alpha(ImageOps.exif_transpose(picture))
