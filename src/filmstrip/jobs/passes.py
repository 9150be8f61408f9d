"""Jobs of several passes: each changes the video of the one before, to enlarge it or to refine it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filmstrip.files import remove, unused
from filmstrip.jobs.events import MadeVideo, Noted, Tell
from filmstrip.jobs.inputs import read_input
from filmstrip.jobs.job import Source
from filmstrip.jobs.resolution import ResolvedJob, next_job, resolve_job
from filmstrip.jobs.videos import load, make_pass

if TYPE_CHECKING:
    from filmstrip.assembly import Pipeline

BETWEEN_SUFFIX = ".mkv"
"""Of the videos between passes, which lose nothing."""


def make(
    resolved: ResolvedJob,
    targets: list[Path],
    tell: Tell,
    *,
    pipeline: Pipeline | None = None,
    before: Mapping[str, object] | None = None,
    **how: Any,
) -> list[MadeVideo]:
    """Make the videos of a job, one for each target, each of which is written whole or not at all.

    Videos between passes lie beside their targets, and are removed when those are whole. All videos go through one
    pass before the next one begins, so that each model is loaded once.

    Args:
        tell: is handed each event; what it raises ends the job, of which `finish_video` goes on from what is kept.
        pipeline: as `load` made it for this job or one like it; it is loaded if left out.
        before: the record of the video that these are made of.
        how: `has_sheet`, `every`, `overwrite` and `told`, as `make_pass` has them.

    Raises:
        ValueError: a video can't be written to its target.
    """
    from filmstrip.media.metadata import json_path

    if not resolved.job.then:
        return make_pass(resolved, targets, tell, pipeline=pipeline, before=before, **how)
    between = [unused(_between(target, len(resolved.job.then))) for target in targets]
    own = {**how, "has_sheet": False, "overwrite": False}
    firsts = make_pass(resolved, between, tell, pipeline=pipeline, before=before, **own)
    pipeline = None  # its memory is for the next one
    made: list[MadeVideo] = []
    try:
        for number, (first, target) in enumerate(zip(firsts, targets, strict=True)):
            job = replace(next_job(resolved.job), seed=resolved.job.seed + number)
            following = resolve_job(job, read_input("video", Source(str(first.path))))
            if pipeline is None:
                pipeline = load(following)
            made += make(following, [target], tell, pipeline=pipeline, before=first.record, **how)
            remove(first.path)
            remove(json_path(first.path))
    except BaseException:
        left = ", ".join(str(one.path) for one in firsts if one.path.exists())
        tell(Noted(f"What was made before this pass is {left}; generate --video goes on from it.", is_urgent=True))
        raise
    return made


def _between(target: Path, left: int) -> Path:
    """Where a video goes that has so many passes before it."""
    name = target.stem if target.suffix else target.name
    return target.with_name(f"{name}-before-{left}{BETWEEN_SUFFIX}")
