"""The video writer: frames go in as they are made, and the file appears in its place when it is whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from filmstrip.files import partial_path, remove, remove_leftovers, settle
from filmstrip.media import metadata as metadata_
from filmstrip.media.encoders import Encoder, Encoding, open_encoder
from filmstrip.media.formats import check_writable, find_format
from filmstrip.media.pixels import to_uint8_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FASTEST = {"gif": 50}  # browsers show a GIF whose frames last less than 0.02 s at 10 frames a second
_DENOMINATOR = 1001  # 30000/1001 and its kin
_LEAST_FPS, _MOST_FPS = 0.001, 1000


class VideoWriter:
    """Write one video, frame by frame, under a temporary name that becomes `path` once whole.

    Leaving the `with` block by an exception, Ctrl-C included, leaves nothing behind. The suffix decides the format:
    .mp4 and .mov (H.264), .webm (VP9), .mkv (FFV1, lossless), .gif, .webp, and none for a folder of PNG files.

    Args:
        path: where the video will lie; missing parent folders are created.
        fps: frames a second; fractions such as 30000/1001 are kept exactly.
        quality: from 0 (worst) to 10; None stands for 6.5, which looks lossless. Not for .mkv, .gif or a folder.
        bitrate: bits a second, instead of a quality; for .mp4, .mov and .webm.
        macro_block_size: both sides of the coded picture become multiples of it, by repeating the last row and column;
            H.264 always needs 2. Frames are never rescaled, and the true size is recorded.
        metadata: what made the video; kept in the file and in a JSON file beside it.
        overwrite: whether an existing file is replaced. If not, and there is one when the video is whole, the video
            gets the next free name, which then is the writer's `path`.
    """

    def __init__(
        self,
        path: Path | str,
        fps: float | Fraction = 8,
        *,
        quality: float | None = None,
        bitrate: int | None = None,
        macro_block_size: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        overwrite: bool = True,
    ) -> None:
        self._format = find_format(path)
        self.path = Path(path)
        self.fps = _exact_fps(fps, self._format.kind)
        self.num_frames = 0
        self._quality, self._bitrate, self._metadata = quality, bitrate, metadata
        self._check_quality()
        if macro_block_size is not None and macro_block_size < 1:
            raise ValueError(f"macro_block_size must be at least 1, got {macro_block_size}.")
        self._alignment = math.lcm(self._format.alignment, macro_block_size or 1)
        check_writable(path)
        self._may_replace = overwrite
        self._partial = partial_path(self.path)
        self._encoder: Encoder | None = None
        self._shape: tuple[int, ...] = ()
        self._facts: dict[str, Any] = {}
        self._is_closed = False

    def _check_quality(self) -> None:
        name = self.path.suffix or "a folder of PNG files"
        if self._quality is not None:
            if self._bitrate is not None:
                raise ValueError("give quality or bitrate, not both.")
            if self._format.largest_crf is None and self._format.kind != "webp":
                raise ValueError(f"{name} has no choice of quality; leave quality out, or write .mp4, .webm or .webp.")
            if not 0 <= self._quality <= 10:
                raise ValueError(f"quality must be from 0 (worst) to 10, got {self._quality}.")
        if self._bitrate is not None:
            if self._format.largest_crf is None:
                raise ValueError(f"{name} has no bitrate; leave it out, or write .mp4, .mov or .webm.")
            if self._bitrate <= 0:
                raise ValueError(f"bitrate must be positive, in bits a second, got {self._bitrate}.")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error_type is None:
            self.close()
        else:
            self.abort()

    def write(self, frames: Any) -> None:
        """Add one frame or several, in any of the forms that `to_uint8_frames` takes, all of one size."""
        if self._is_closed:
            raise ValueError(f"the writer of {self.path} is closed; open another.")
        for frame in to_uint8_frames(frames):
            if self._encoder is None:
                self._open(frame.shape)
            elif frame.shape != self._shape:
                raise ValueError(
                    f"all frames of a video must have one size: frame {self.num_frames} is {_size_of(frame.shape)}, "
                    f"those before are {_size_of(self._shape)}."
                )
            assert self._encoder is not None
            self._encoder.add(_pad(frame, self._alignment))
            self.num_frames += 1

    def _open(self, shape: tuple[int, ...]) -> None:
        remove_leftovers(self.path)
        self._shape = shape
        height, width = shape[:2]
        coded_height, coded_width = (side + -side % self._alignment for side in (height, width))
        self._facts = {"width": width, "height": height, "fps": str(self.fps), "coded": [coded_width, coded_height]}
        self._encoder = open_encoder(
            Encoding(
                path=self._partial,
                format=self._format,
                fps=self.fps,
                height=coded_height,
                width=coded_width,
                quality=self._quality,
                bitrate=self._bitrate,
                metadata=self._metadata,
                facts=self._facts,
            )
        )

    def close(self) -> None:
        """Complete the file and move it into its place; closing again does nothing."""
        if self._is_closed:
            return
        try:
            if self._encoder is None:
                raise ValueError(f"no frame was written to {self.path}; a video needs at least one.")
            self._encoder.finish()
            self.path = settle(self._partial, self.path, may_replace=self._may_replace)
            if self._metadata:
                metadata_.write_beside(self.path, self._metadata, {**self._facts, "num_frames": self.num_frames})
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop writing and remove what is unfinished; after `close` it does nothing."""
        self._is_closed = True
        if self._encoder is not None:
            self._encoder.abort()
            self._encoder = None
        remove(self._partial)


def _exact_fps(fps: float | Fraction, kind: str) -> Fraction:
    if not _LEAST_FPS <= fps <= _MOST_FPS:
        raise ValueError(f"fps must be from {_LEAST_FPS} to {_MOST_FPS} frames a second, got {fps}.")
    if fps > _FASTEST.get(kind, math.inf):
        raise ValueError(f"a GIF plays at most {_FASTEST[kind]} frames a second, got {fps}; write .mp4 or .webp.")
    return Fraction(fps if isinstance(fps, Fraction) else float(fps)).limit_denominator(_DENOMINATOR)


def _pad(frame: NDArray[np.uint8], alignment: int) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    if height % alignment == 0 and width % alignment == 0:
        return np.ascontiguousarray(frame)
    return np.pad(frame, ((0, -height % alignment), (0, -width % alignment), (0, 0)), mode="edge")


def _size_of(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
