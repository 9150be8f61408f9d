"""The frames of a clip in a container, upright, with square pixels, at a constant rate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from filmstrip.media.facts import FileFacts
from filmstrip.media.levels import Say, on_white
from filmstrip.media.opening import open_clip
from filmstrip.media.timing import Steady, most_frames, rate_of, sane_rate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

_WIDEST_PIXEL = 4  # times as wide as high, or as high as wide; 2.2 is the most that cameras and discs have


def read_container(
    path: Path, shown: str, facts: FileFacts, num_frames: int | None, tell: Say
) -> tuple[list[Pixels], float | None]:
    """The frames, and how many there are a second; None where nothing says it.

    Args:
        shown: the clip's name in messages.
        facts: what the file says of itself.
        num_frames: how many at the most, from the first one on; None reads all.
        tell: is handed a sentence about what a user may not expect.
    """
    times, tick = _times(path, shown)
    with open_clip(path, shown) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        claims = [facts.fps, *(sane_rate(rate) for rate in (stream.average_rate, stream.guessed_rate))]
        fps = rate_of(times, claims, tick)
        pixel = _pixel_shape(stream)
        decoded = container.decode(stream)
        if fps is None:
            frames = _finished(decoded, num_frames, facts, pixel, tell)
        else:
            most = num_frames or (most_frames(len(times)) if times else None)
            steady = Steady(fps, most)
            taken = steady.take(_timed(decoded, has_times=bool(times)))
            frames = _finished(taken, most, facts, pixel, tell)
            steady.tell_of(shown, tell)
    if not frames:
        raise ValueError(f"{shown} holds no frames.")
    return frames, None if fps is None else float(fps)


def _times(path: Path, shown: str) -> tuple[list[float], float]:
    """When frames begin, in seconds, without decoding them, and the tick of that clock; none where nothing says it."""
    times: list[float] = []
    with open_clip(path, shown) as container:
        if not container.streams.video:
            return _no_video(shown)
        stream = container.streams.video[0]
        tick = float(stream.time_base or 0)
        for packet in container.demux(stream):
            if packet.size == 0 or getattr(packet, "is_discard", False):
                continue
            if packet.pts is None:
                return [], tick
            times.append(packet.pts * tick)
    return times, tick


def _no_video(shown: str) -> Any:
    raise ValueError(f"{shown} holds no video; give a file with moving pictures.")


def _timed(frames: Iterator[Any], *, has_times: bool) -> Iterator[tuple[float | None, Any]]:
    for frame in frames:
        yield (frame.time if has_times else None), frame


def _finished(
    frames: Iterator[Any], num_frames: int | None, facts: FileFacts, pixel: Fraction, tell: Say
) -> list[Pixels]:
    """The pixels of frames; one that is repeated is converted once."""
    made: list[Pixels] = []
    last: Any = None
    for frame in itertools.islice(frames, num_frames):
        made.append(made[-1] if frame is last else _picture(frame, facts, pixel, tell))
        last = frame
    return made


# ---- one frame -------------------------------------------------------------------------------------------------------


def _picture(frame: Any, facts: FileFacts, pixel: Fraction, tell: Say) -> Pixels:
    if any(component.is_alpha for component in frame.format.components):
        pixels = on_white(frame.to_ndarray(format="rgba"), tell)
    else:
        pixels = frame.to_ndarray(format="rgb24")
    width, height = facts.true_size(pixels.shape[1], pixels.shape[0])
    return _upright(_squared(pixels[:height, :width], pixel), _display_matrix(frame))


def _pixel_shape(stream: Any) -> Fraction:
    """How wide a pixel is for its height; 1 where nothing sensible is said."""
    said = stream.sample_aspect_ratio
    if not said or not Fraction(1, _WIDEST_PIXEL) <= said <= _WIDEST_PIXEL:
        return Fraction(1)
    return Fraction(said)


def _squared(pixels: Pixels, pixel: Fraction) -> Pixels:
    """With square pixels: the shorter side of a pixel grows, so that nothing is lost."""
    height, width = pixels.shape[:2]
    wanted = (max(1, round(width * max(pixel, 1))), max(1, round(height / min(pixel, 1))))
    if wanted == (width, height):
        return pixels
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(wanted, Image.Resampling.LANCZOS))


def _display_matrix(frame: Any) -> NDArray[np.int32] | None:
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return np.frombuffer(bytes(data), np.int32)[:9].reshape(3, 3)
    return None


def _upright(pixels: Pixels, matrix: NDArray[np.int32] | None) -> Pixels:
    """Turned and mirrored as the display matrix says, to the nearest quarter (ISO 14496-12, 6.2.2).

    The matrix takes (x, y) of a stored pixel to (a x + c y, b x + d y), with a and b in its first row.
    """
    if matrix is None:
        return pixels
    (a, b), (c, d) = matrix[0, :2].tolist(), matrix[1, :2].tolist()
    is_turned = abs(b) > abs(a)
    if is_turned:
        pixels = pixels.swapaxes(0, 1)
    if (c if is_turned else a) < 0:
        pixels = pixels[:, ::-1]
    if (b if is_turned else d) < 0:
        pixels = pixels[::-1]
    return pixels
