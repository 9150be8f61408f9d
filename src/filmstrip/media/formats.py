"""Which file suffix means what, and whether a path can be written at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from filmstrip.files import partial_path

# On the scale of 0 to 10 that ImageIO and the reference use: x264's crf 18, where the eye sees no loss.
DEFAULT_QUALITY = 6.5


@dataclass(frozen=True)
class Format:
    """How a kind of file is written."""

    kind: Literal["video", "gif", "webp", "folder"]
    container: str = ""
    codec: str = ""
    pixel_format: str = ""
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    container_options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    largest_crf: float | None = None  # the codec's worst quality; None where quality can't be chosen
    alignment: int = 1  # the coded size must be a multiple

    @property
    def is_lossless(self) -> bool:
        """Whether every level of every pixel is kept."""
        return self.kind == "folder" or self.codec == "ffv1"


# Measured on 49 frames of 480x720: "veryfast" at crf 18 takes 0.55 of the CPU time of "medium" at crf 25, which is what
# the reference sets, and is nearer to the frames (36.1 against 35.3 dB) at 1.8 times the size.
_H264 = {
    "kind": "video",
    "codec": "libx264",
    "pixel_format": "yuv420p",
    "options": MappingProxyType({"preset": "veryfast"}),
    "largest_crf": 51.0,
    "alignment": 2,
}
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        ".mp4": Format(**_H264, container="mp4", container_options={"movflags": "+faststart"}),  # type: ignore[arg-type]
        # QuickTime's own tags end at 64 KiB, so the metadata go into the newer kind.
        ".mov": Format(**_H264, container="mov", container_options={"movflags": "+faststart+use_metadata_tags"}),  # type: ignore[arg-type]
        ".webm": Format(
            "video",
            container="webm",
            codec="libvpx-vp9",
            pixel_format="yuv420p",
            options={"deadline": "good", "cpu-used": "4", "row-mt": "1"},
            largest_crf=63.0,
        ),
        # FFV1 keeps every RGB value.
        ".mkv": Format("video", container="matroska", codec="ffv1", pixel_format="bgr0", options={"level": "3"}),
        ".gif": Format("gif"),
        ".webp": Format("webp"),
    }
)
_FOLDER = Format("folder")


def find_format(path: Path | str) -> Format:
    """The format that a path's suffix stands for; without a suffix it is a folder of PNG files."""
    suffix = Path(path).suffix.lower()
    if not suffix or str(path).endswith(("/", os.sep)):
        return _FOLDER
    if suffix in FORMATS:
        return FORMATS[suffix]
    nearest = get_close_matches(suffix, FORMATS, n=1, cutoff=0.5)
    allowed = ", ".join(FORMATS)
    if suffix in (".png", ".jpg", ".jpeg"):
        hint = f"for a folder of PNG files, give a name without a suffix, such as {Path(path).with_suffix('')}"
    else:
        hint = f"did you mean {nearest[0] if nearest else '.mp4'}?"
    raise ValueError(
        f"a video can't be written as {suffix!r} ({Path(path).name}); allowed are {allowed}, "
        f"or no suffix for a folder of PNG files; {hint}"
    )


def check_writable(path: Path | str) -> None:
    """Make sure, before anything is computed, that a video can be written there; missing folders are created.

    Raises:
        ValueError: an unknown suffix, a folder that isn't empty or can't be written to, or a folder in place of a file.
    """
    is_folder = find_format(path).kind == "folder"
    target = Path(path)
    if target.is_dir() and not is_folder:
        raise ValueError(f"{target} is a folder; give the name of a file that does not exist or may be replaced.")
    if is_folder and target.exists() and not target.is_dir():
        raise ValueError(
            f"{target} is a file; a folder of PNG files can't replace it, so give another name or a suffix."
        )
    try:
        if is_folder and target.is_dir() and any(target.iterdir()):
            raise ValueError(
                f"the folder {target} isn't empty, and frames are not mixed with other files; "
                f"give a new folder, or a file such as {target / 'video.mp4'}."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        probe = partial_path(target)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{target} can't be written: {error.strerror or error}; give another path.") from error
    if target.is_file() and not os.access(target, os.W_OK):
        raise ValueError(f"{target} exists and is write-protected; give another path.")


def crf_of(quality: float, largest: float) -> str:
    """The constant rate factor for a quality of 0 to 10; never 0, which means a lossless profile few players know."""
    return f"{max(1.0, largest * (1 - quality / 10)):.1f}"
