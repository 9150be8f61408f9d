"""Reading pictures and videos, from files and addresses."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from filmstrip.media.metadata import FILE_KEY, read_embedded

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PATIENCE_SECONDS = 30


def load_image(
    image: str | Path | Image.Image,
    convert_method: Callable[[Image.Image], Image.Image] | None = None,
) -> Image.Image:
    """A picture from a file, an http(s) address or a picture, upright and in RGB.

    Args:
        convert_method: takes the picture instead of the conversion to RGB.
    """
    upright = ImageOps.exif_transpose(image) if isinstance(image, Image.Image) else _open_upright(image)
    return upright.convert("RGB") if convert_method is None else convert_method(upright)


def _open_upright(source: str | Path) -> Image.Image:
    with _local_file(source, "picture") as path:
        try:
            with Image.open(path) as picture:
                return ImageOps.exif_transpose(picture)
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{source} can't be read as a picture: {error}.") from error


def load_video(
    video: str | Path,
    convert_method: Callable[[list[Image.Image]], list[Image.Image]] | None = None,
    return_fps: bool = False,
    *,
    num_frames: int | None = None,
) -> Any:
    """The frames of a video as RGB pictures, with its frame rate if `return_fps`.

    Args:
        video: a file, an http(s) address, or a folder of pictures, which are taken in the order of their names.
        convert_method: applied to the list of pictures.
        num_frames: how many to read, from the first one on; None reads all.

    Raises:
        ValueError: it can't be read, or has fewer frames.
    """
    with _local_file(video, "video") as path:
        frames, fps = read_video(path, num_frames)
    if num_frames is not None and len(frames) < num_frames:
        raise ValueError(f"{video} has {len(frames)} frames, {num_frames} were asked for; ask for fewer.")
    pictures = [Image.fromarray(frame) for frame in frames]
    if convert_method is not None:
        pictures = convert_method(pictures)
    if return_fps and fps is None:
        raise ValueError(f"{video} does not record a frame rate; leave out return_fps.")
    return (pictures, fps) if return_fps else pictures


def read_video(path: str | Path, num_frames: int | None = None) -> tuple[NDArray[np.uint8], float | None]:
    """The frames of a video, (frames, height, width, 3), and its frame rate (None where the file has none).

    Files that `VideoWriter` padded come back in their true size.

    Args:
        num_frames: how many at the most, from the first one on; None reads all.
    """
    path = Path(path)
    if num_frames is not None and num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}.")
    if not path.exists():
        raise ValueError(f"there is no video {path}.")
    facts = (read_embedded(path) or {}).get(FILE_KEY, {})
    fps = float(Fraction(facts["fps"])) if "fps" in facts else None
    if path.is_dir():
        frames = _read_folder(path)
    elif path.suffix.lower() in (".gif", ".webp", ".png"):
        frames, durations = _read_animation(path)
        if fps is not None and "num_frames" in facts:
            frames = _repeat_merged(frames, durations, facts["num_frames"], fps)
        elif sum(durations) > 0:
            fps = 1000 * len(durations) / sum(durations)
    else:
        frames, found = _read_container(path, num_frames)
        fps = fps or found
    height, width = facts.get("height"), facts.get("width")
    return np.stack([frame[:height, :width] for frame in frames[:num_frames]]), fps


def _read_container(path: Path, num_frames: int | None) -> tuple[list[NDArray[np.uint8]], float | None]:
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} holds no video.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            frames = []
            for frame in itertools.islice(container.decode(stream), num_frames):
                quarter_turns = round(getattr(frame, "rotation", 0) / 90)
                frames.append(np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns))
            fps = stream.average_rate or stream.guessed_rate
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path} can't be read as a video: {error}.") from error
    if not frames:
        raise ValueError(f"{path} holds no frames.")
    return frames, float(fps) if fps else None


def _read_animation(path: Path) -> tuple[list[NDArray[np.uint8]], list[float]]:
    """The stored frames and how long each is shown, in milliseconds."""
    frames, durations = [], []
    try:
        with Image.open(path) as animation:
            for picture in ImageSequence.Iterator(animation):
                frames.append(np.asarray(picture.convert("RGB")))
                durations.append(float(picture.info.get("duration", 0)))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} can't be read as a video: {error}.") from error
    return frames, durations


def _repeat_merged(
    frames: list[NDArray[np.uint8]], durations: list[float], num_frames: int, fps: float
) -> list[NDArray[np.uint8]]:
    """Undo the merging of equal neighbours, which animated pictures store as one frame shown for longer."""
    ends = np.cumsum(durations)
    middles = (np.arange(num_frames) + 0.5) * 1000 / fps
    shown = np.searchsorted(ends, middles, side="right")
    return [frames[min(index, len(frames) - 1)] for index in shown]


def _read_folder(folder: Path) -> list[NDArray[np.uint8]]:
    suffixes = Image.registered_extensions()
    names = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    if not names:
        raise ValueError(f"the folder {folder} holds no pictures; name a video, or a folder of frames.")
    frames = [np.asarray(load_image(name)) for name in names]
    if len({frame.shape for frame in frames}) > 1:
        raise ValueError(f"the pictures in {folder} differ in size, so they are not the frames of one video.")
    return frames


@contextlib.contextmanager
def _local_file(source: str | Path, what: str) -> Iterator[Path]:
    """A path to read, downloaded first if the source is an address."""
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        suffix = Path(unquote(urlparse(source).path)).suffix
        with tempfile.TemporaryDirectory(prefix="filmstrip-") as folder:
            path = Path(folder) / f"download{suffix}"
            _download(source, path, what)
            yield path
    elif isinstance(source, (str, Path)):
        path = Path(source)
        if not path.exists():
            raise ValueError(f"there is no {what} {source}; give a file, or an address that starts with http(s)://.")
        yield path
    else:
        raise ValueError(f"a {what} must be a path or an http(s) address, got {type(source).__name__}.")


def _download(address: str, path: Path, what: str) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": "filmstrip"})
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as response, path.open("wb") as file:
            while block := response.read(1 << 20):
                file.write(block)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ValueError(f"the {what} {address} can't be downloaded: {reason}.") from error
