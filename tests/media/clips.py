"""Small videos with a known course."""

from pathlib import Path

import numpy as np

SUFFIXES = [".mp4", ".mov", ".webm", ".mkv", ".gif", ".webp", ""]


def moving_square(num_frames: int = 6, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 frames, (frames, height, width, 3): a red square that moves to the right over a smooth ramp."""
    rows, columns = np.mgrid[:height, :width]
    ramp = np.stack([60 + columns, 80 + rows, np.full_like(rows, 120)], -1).clip(0, 255).astype(np.uint8)
    frames = np.repeat(ramp[None], num_frames, 0)
    for index, frame in enumerate(frames):
        frame[height // 4 : height // 2, 4 * index : 4 * index + width // 4] = (230, 40, 30)
    return frames


def psnr(got: np.ndarray, wanted: np.ndarray) -> float:
    """Peak signal to noise ratio in dB of uint8 arrays of one shape."""
    assert got.shape == wanted.shape, f"{got.shape} is not {wanted.shape}"
    error = np.mean((got.astype(np.float64) - wanted) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def names_in(folder: Path) -> list[str]:
    """What lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())
