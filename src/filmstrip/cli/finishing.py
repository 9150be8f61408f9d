"""`filmstrip decode`: finish a video from what was kept of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filmstrip.cli.generating import Output, tell_made
from filmstrip.cli.making import load, make_video
from filmstrip.cli.plans import Job, check_placement, choose_pipeline, find_scheduler
from filmstrip.cli.progress import library_notes, make_progress
from filmstrip.cli.records import job_of
from filmstrip.cli.targets import KEPT_SUFFIX, check_targets, unused

if TYPE_CHECKING:
    import torch

    from filmstrip.generation import Pipeline
    from filmstrip.generation.keeping import Unfinished


def decode(file: Path, device: str | None, output: Output) -> None:
    """Finish the video of a file that was kept, and remove the file."""
    with library_notes(is_quiet=output.is_quiet):
        _decode(file, device, output)


def _decode(file: Path, device: str | None, output: Output) -> None:
    from filmstrip.generation.finishing import request_of
    from filmstrip.generation.keeping import read_unfinished

    unfinished = read_unfinished(file)
    if unfinished.request.num_videos != 1:
        count = unfinished.request.num_videos
        raise ValueError(f"{file} holds {count} videos; finish them from Python with pipeline.finish({str(file)!r}).")
    job = _job(unfinished, file)
    place, _ = check_placement(device or job.device, None)
    record = unfinished.about.get("record") or _record(unfinished)
    fps = unfinished.about.get("fps") or unfinished.request.size.frame_rate
    target = output.path or unused(Path(unfinished.about.get("target") or _beside(file)))
    check_targets([target], fps, [str(file)], has_sheet=False, is_dry=False)
    with make_progress(is_quiet=output.is_quiet) as progress:
        begin = time.monotonic()
        progress.update("load", 0, 1, 0.0)
        pipeline = _load(unfinished, job, place)
        load_seconds = time.monotonic() - begin
        progress.update("load", 1, 1, load_seconds)
        progress.begin("")
        request = request_of(pipeline, unfinished, file)
        sheet = bool(unfinished.about.get("has_sheet"))
        made = make_video(pipeline, request, target, fps, record, progress, sheet)
    made.stages = {"load": load_seconds, **made.stages}
    tell_made([made], request.size.adjustments, output)


def _job(unfinished: Unfinished, file: Path) -> Job:
    record = unfinished.about.get("record")
    if record is not None:
        return job_of(record, file, with_inputs=False)
    if not unfinished.model:
        raise ValueError(
            f"{file} was kept of a pipeline that came from no checkpoint; finish it from Python with "
            f"pipeline.finish({str(file)!r})."
        )
    return Job(unfinished.model, seed=0, pipeline=unfinished.pipeline)


def _load(unfinished: Unfinished, job: Job, device: torch.device) -> Pipeline:
    """The pipeline of a run, with the weights of those networks that are still needed."""
    outline = choose_pipeline(job)
    scheduler = None
    if unfinished.scheduler:
        name, settings = json.loads(unfinished.scheduler)
        scheduler = find_scheduler(name).from_config(settings)
    if not unfinished.is_denoised:
        first = next(iter(unfinished.dtypes.values()))
        return load(outline, job, {"default": first, **unfinished.dtypes}, device, scheduler)
    placement: dict[str, Any] = {"dtype": unfinished.dtypes["vae"], "device": device}
    own = {} if "vae" in job.components else {"subfolder": "vae"}
    outline.vae = type(outline.vae).from_pretrained(job.components.get("vae", job.model), **own, **placement)
    return outline


def _record(unfinished: Unfinished) -> dict[str, Any]:
    """What is known of a run that was not the command's."""
    prompts = unfinished.request.prompts or (None,)
    names = ("model", "pipeline", "versions")
    return {"prompt": prompts[0], **{name: getattr(unfinished, name) for name in names}}


def _beside(file: Path) -> Path:
    name = file.name.removesuffix(KEPT_SUFFIX) if file.name.endswith(KEPT_SUFFIX) else file.stem
    return file.with_name(f"{name}.mp4")
