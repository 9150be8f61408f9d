"""The calls that users know for writing a finished video."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from filmstrip.media.writer import VideoWriter


def export_to_video(
    video_frames: Any,
    output_video_path: str | os.PathLike[str] | None = None,
    fps: float | Fraction = 8,
    quality: float | None = None,
    bitrate: int | None = None,
    macro_block_size: int | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Write a video and return its path; the suffix decides the format, see `VideoWriter` for it and the arguments.

    Args:
        video_frames: one video, as a pipeline returns it (`frames[0]`, or `frames` if it holds just one).
        output_video_path: None stands for a new temporary .mp4 file.
    """
    if output_video_path is None:
        return _to_temporary_file(".mp4", video_frames, fps, quality, bitrate, macro_block_size, metadata)
    path = os.fspath(output_video_path)
    with VideoWriter(
        path, fps, quality=quality, bitrate=bitrate, macro_block_size=macro_block_size, metadata=metadata
    ) as writer:
        writer.write(video_frames)
    return path


def export_to_gif(
    image: Any,
    output_gif_path: str | os.PathLike[str] | None = None,
    fps: float | Fraction = 8,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Write an animated GIF and return its path.

    Args:
        image: the frames of one video.
        output_gif_path: None stands for a new temporary file.
    """
    if output_gif_path is None:
        return _to_temporary_file(".gif", image, fps, None, None, None, metadata)
    if Path(output_gif_path).suffix.lower() != ".gif":
        raise ValueError(
            f"export_to_gif writes .gif, got {os.fspath(output_gif_path)!r}; export_to_video writes others."
        )
    return export_to_video(image, output_gif_path, fps, metadata=metadata)


def _to_temporary_file(suffix: str, frames: Any, *arguments: Any) -> str:
    handle, path = tempfile.mkstemp(suffix, "filmstrip-")
    os.close(handle)
    fps, quality, bitrate, macro_block_size, metadata = arguments
    try:
        return export_to_video(frames, path, fps, quality, bitrate, macro_block_size, metadata=metadata)
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise
