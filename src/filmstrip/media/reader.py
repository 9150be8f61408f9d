"""Reading pictures and videos, from files and addresses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from filmstrip.media.animations import read_animation, read_folder, read_upright
from filmstrip.media.containers import read_container
from filmstrip.media.download import local_file
from filmstrip.media.facts import facts_of
from filmstrip.media.levels import once, to_rgb, warn
from filmstrip.media.metadata import read_embedded
from filmstrip.media.opening import is_picture
from filmstrip.media.places import check_file, public_address

if TYPE_CHECKING:
    from numpy.typing import NDArray


def load_image(
    image: str | Path | Image.Image,
    convert_method: Callable[[Image.Image], Image.Image] | None = None,
) -> Image.Image:
    """A picture from a file, an http(s) address or a picture, upright and in RGB; what is transparent becomes white.

    Args:
        convert_method: takes the picture instead of the conversion to RGB.
    """
    if isinstance(image, Image.Image):
        upright = ImageOps.exif_transpose(image)
    else:
        with local_file(image, "picture") as (path, shown):
            upright = read_upright(path, shown)
    return to_rgb(upright) if convert_method is None else convert_method(upright)


def load_video(
    video: str | Path,
    convert_method: Callable[[list[Image.Image]], list[Image.Image]] | None = None,
    return_fps: bool = False,
    *,
    num_frames: int | None = None,
) -> Any:
    """The frames of a video as RGB pictures, with its frame rate if `return_fps`; see `read_video`.

    Args:
        video: a file, an http(s) address, or a folder of pictures, which are taken in the order of their names, numbers
            as numbers.
        convert_method: applied to the list of pictures.
        num_frames: how many to read, from the first one on; None reads all.

    Raises:
        ValueError: it can't be read, or has fewer frames.
    """
    with local_file(video, "video") as (path, shown):
        frames, fps = _read(path, shown, num_frames)
    if num_frames is not None and len(frames) < num_frames:
        raise ValueError(f"{shown} has {len(frames)} frames, {num_frames} were asked for; ask for fewer.")
    pictures = [Image.fromarray(frame) for frame in frames]
    if convert_method is not None:
        pictures = convert_method(pictures)
    if return_fps and fps is None:
        raise ValueError(f"{shown} does not record a frame rate; leave out return_fps.")
    return (pictures, fps) if return_fps else pictures


def read_video(path: str | Path, num_frames: int | None = None) -> tuple[NDArray[np.uint8], float | None]:
    """The frames of a video, (frames, height, width, 3), and its frame rate (None where the file has none).

    Frames are upright and their pixels square. They come at a constant rate: where the file has none, frames are
    repeated and left out so that the motion keeps its time, which is told. Files that `VideoWriter` padded come back in
    their true size.

    Args:
        num_frames: how many at the most, from the first one on; None reads all.
    """
    return _read(Path(path), public_address(path), num_frames)


def _read(path: Path, shown: str, num_frames: int | None) -> tuple[NDArray[np.uint8], float | None]:
    if num_frames is not None and num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}.")
    tell = once(warn)
    if path.is_dir():
        frames, fps = read_folder(path, num_frames, tell), facts_of(read_embedded(path)).fps
        return np.stack(frames), None if fps is None else float(fps)
    check_file(path, "video", shown)
    read = read_animation if is_picture(path) else read_container
    frames, rate = read(path, shown, facts_of(read_embedded(path)), num_frames, tell)
    return np.stack(frames), rate
