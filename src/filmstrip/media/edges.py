"""The edges of pictures: what networks that are controlled by edges are given."""

from __future__ import annotations

from typing import Any

from PIL import Image

from filmstrip.media.pixels import to_uint8_frames


def canny_edges(frames: Any, low_threshold: float = 100, high_threshold: float = 200) -> list[Image.Image]:
    """The edges of each frame (Canny, 1986), white on black, as RGB pictures.

    It fits `load_video(..., convert_method=canny_edges)`.

    Args:
        frames: a picture or a video, in any of the forms that `to_uint8_frames` takes.
        low_threshold, high_threshold: changes of brightness between 0 and about 1000: what exceeds the higher one is
            an edge, and so is what exceeds the lower one and touches an edge.

    Raises:
        ImportError: OpenCV is not installed.
        ValueError: thresholds out of order, or frames that are no pictures.
    """
    if not 0 <= low_threshold <= high_threshold:
        raise ValueError(
            f"thresholds of edges must be 0 <= low_threshold <= high_threshold, got {low_threshold} and"
            f" {high_threshold}."
        )
    try:
        import cv2
    except ImportError as error:
        raise ImportError("edges are found by OpenCV, which is not there: pip install 'filmstrip[edges]'.") from error
    edges = (cv2.Canny(frame, low_threshold, high_threshold) for frame in to_uint8_frames(frames))
    return [Image.fromarray(edge).convert("RGB") for edge in edges]
