"""Where videos go: names for them, and whether they can be written."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path("outputs")
KEPT_SUFFIX = ".latents.safetensors"
_LONGEST = 48


def choose_targets(output: Path | None, prompt: str, seed: int, num_videos: int) -> list[Path]:
    """A path for each video: the one asked for (numbered if there are several), or fresh names in `outputs`."""
    if output is not None:
        if num_videos == 1:
            return [output]
        return [output.with_name(f"{output.stem}-{number + 1}{output.suffix}") for number in range(num_videos)]
    return [unused(FOLDER / f"{slug(prompt)}-{seed + number}.mp4") for number in range(num_videos)]


def unused(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that does not exist."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def slug(text: str) -> str:
    """The first words of a text, as a part of a file name."""
    words = re.findall(r"\w+", text.lower())
    name = ""
    for word in words:
        longer = f"{name}-{word}" if name else word[:_LONGEST]
        if len(longer) > _LONGEST:
            break
        name = longer
    return name or "video"


def sheet_path(target: Path) -> Path:
    """Where the contact sheet of a video goes."""
    return target.with_suffix(".png") if target.suffix else target.with_name(f"{target.name}.png")


def kept_path(target: Path) -> Path:
    """Where what is done of a video is kept until it is whole: beside it, in the way of no other one."""
    name = target.stem if target.suffix else target.name
    return unused(target.with_name(f"{name}{KEPT_SUFFIX}"))


def check_targets(targets: list[Path], fps: float, inputs: list[str], *, has_sheet: bool, is_dry: bool) -> None:
    """See that all videos can be written with that frame rate, before anything is computed.

    Args:
        inputs: paths that the videos are made from, which must not be replaced.
        is_dry: create no folder.

    Raises:
        ValueError: one can't be; says why.
    """
    from filmstrip.media import VideoWriter
    from filmstrip.media.formats import find_format

    for target in targets:
        find_format(target)
        if target.exists() and any(Path(source).exists() and target.samefile(source) for source in inputs):
            raise ValueError(f"{target} is what the video is made from, and would be replaced; give another -o.")
        if has_sheet and sheet_path(target).is_dir():
            raise ValueError(f"the contact sheet can't be written: {sheet_path(target)} is a folder.")
        if not is_dry:
            VideoWriter(target, fps)  # checks both, and writes nothing until the first frame
