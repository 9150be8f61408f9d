"""Jobs of several passes: each changes the video of the one before, to enlarge it or to refine it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filmstrip.files import remove, unused
from filmstrip.jobs.events import MadeVideo, Noted, Tell
from filmstrip.jobs.inputs import read_input
from filmstrip.jobs.job import Source
from filmstrip.jobs.resolution import ResolvedJob, resolve_job
from filmstrip.jobs.videos import load, make_pass

if TYPE_CHECKING:
    from filmstrip.assembly import Pipeline

BETWEEN_SUFFIX = ".mkv"
"""Of the videos between passes, which lose nothing."""


def make(
    resolved: ResolvedJob, targets: list[Path], tell: Tell, *, pipeline: Pipeline | None = None, **how: Any
) -> list[MadeVideo]:
    """Make the videos of a job, one for each target, each of which is written whole or not at all.

    All videos go through one pass before the next one begins, so that each model is loaded once, and one is held.
    Between passes they lie beside their targets, until the next pass has made the same video.

    Args:
        tell: is handed each event; what it raises ends the job, of which `finish_video` goes on from what is kept.
        pipeline: as `load` made it for this job or one like it; it is loaded if left out.
        how: `has_sheet`, `every`, `overwrite` and `told`, as `make_pass` has them.

    Raises:
        ValueError: a video can't be written to its target.
    """
    passes = resolved.job.then
    if not passes:
        return make_pass(resolved, targets, tell, pipeline=pipeline, **how)
    between = {**how, "has_sheet": False, "overwrite": False}
    lying = _between(targets, len(passes))
    try:
        made = make_pass(resolved, lying, tell, pipeline=pipeline, **between)
        for left, job in zip(reversed(range(len(passes))), passes, strict=True):
            paths, own = (_between(targets, left), between) if left else (targets, how)
            lying += paths if left else []
            pipeline = None  # its memory is for the next one
            for number, (video, path) in enumerate(zip(made, paths, strict=True)):
                asked = replace(job, seed=resolved.job.seed + number)
                following = resolve_job(asked, read_input("video", Source(str(video.path))))
                pipeline = load(following) if pipeline is None else pipeline
                [made[number]] = make_pass(following, [path], tell, pipeline=pipeline, before=video.record, **own)
                _remove(video.path)
    except BaseException:
        if kept := [str(path) for path in lying if path.exists()]:
            sentence = f"What was made before this pass is {', '.join(kept)}; generate --video goes on from it."
            tell(Noted(sentence, is_urgent=True))
        raise
    return made


def _between(targets: Sequence[Path], left: int) -> list[Path]:
    """Where videos go that have so many passes before them."""
    names = [target.stem if target.suffix else target.name for target in targets]
    pairs = zip(targets, names, strict=True)
    return [unused(target.with_name(f"{name}-before-{left}{BETWEEN_SUFFIX}")) for target, name in pairs]


def _remove(video: Path) -> None:
    from filmstrip.media.metadata import json_path

    remove(video)
    remove(json_path(video))
