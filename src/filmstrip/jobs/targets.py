"""Where videos go: names for them, and whether they can be written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from filmstrip.files import check_space, remove_leftovers, unused

FOLDER = Path("outputs")
KEPT_SUFFIX = ".latents.safetensors"
_LONGEST = 48
# Bytes for each pixel of each frame: latents in float32 (of 16 channels for 4 x 8 x 8 pixels), and very still videos.
_KEPT, _LEAST_LOSSLESS, _LEAST_LOSSY = 0.25, 0.1, 0.005


def choose_targets(
    output: Path | None, prompt: str, seed: int, num_videos: int, inputs: Sequence[str] = (), *, overwrite: bool = False
) -> list[Path]:
    """A path for each video: the one asked for (numbered if there are several), or fresh names in `outputs`.

    Args:
        inputs: paths that the videos are made from.
        overwrite: whether files that are there are replaced; if not, the next free names are taken.

    Raises:
        ValueError: the path asked for is an input.
    """
    if output is None:
        return [unused(FOLDER / f"{slug(prompt)}-{seed + number}.mp4") for number in range(num_videos)]
    named = [output]
    if num_videos > 1:
        named = [output.with_name(f"{output.stem}-{number + 1}{output.suffix}") for number in range(num_videos)]
    _check_inputs_stay(named, inputs)
    return [unused(target) if target.is_file() and not overwrite else target for target in named]


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
    """Where what is done of a video is kept until it is whole: beside it."""
    name = target.stem if target.suffix else target.name
    return target.with_name(f"{name}{KEPT_SUFFIX}")


def check_targets(targets: Sequence[Path], fps: float, inputs: Sequence[str], *, is_dry: bool = False) -> None:
    """See that all videos can be written with that frame rate, before anything is computed.

    Args:
        inputs: paths that the videos are made from, which are never replaced.
        is_dry: create no folder.

    Raises:
        ValueError: one can't be; says why.
    """
    from filmstrip.media import VideoWriter
    from filmstrip.media.formats import find_format

    _check_inputs_stay(targets, inputs)
    for target in targets:
        find_format(target)
        if not is_dry:
            VideoWriter(target, fps)  # checks both, and writes nothing until the first frame
            for path in (target, kept_path(target), sheet_path(target)):
                remove_leftovers(path)


def _check_inputs_stay(targets: Sequence[Path], inputs: Sequence[str]) -> None:
    for target in targets:
        if target.exists() and any(Path(source).exists() and target.samefile(source) for source in inputs):
            raise ValueError(f"{target} is what the video is made from, and would be replaced; give another -o.")


def check_room(targets: Sequence[Path], num_frames: int, height: int, width: int) -> None:
    """See that disks have room for videos, and for what is kept of them meanwhile.

    Raises:
        ValueError: one has less than even small videos of that length need.
    """
    from filmstrip.media.formats import find_format

    pixels = num_frames * height * width
    for folder in {target.parent for target in targets}:
        formats = [find_format(target) for target in targets if target.parent == folder]
        shares = [_LEAST_LOSSLESS if one.is_lossless else _LEAST_LOSSY for one in formats]
        check_space(folder, int(pixels * (_KEPT + sum(shares))), "the video with what is kept of it meanwhile")
