"""Finish a video from what was kept of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from filmstrip.files import is_single_part, unused
from filmstrip.hints import fits
from filmstrip.jobs.components import check_placement, choose_pipeline, find_scheduler, load_pipeline
from filmstrip.jobs.events import Advanced, Begun, MadeVideo, Tell
from filmstrip.jobs.job import Disclosure, Job
from filmstrip.jobs.notes import library_events
from filmstrip.jobs.records import check_written, job_of
from filmstrip.jobs.targets import KEPT_SUFFIX, check_targets
from filmstrip.jobs.videos import VideoFile, write_video
from filmstrip.json_files import parse_json, shown
from filmstrip.sharing import place_of

if TYPE_CHECKING:
    import torch

    from filmstrip.assembly import Pipeline
    from filmstrip.resume.unfinished import Unfinished
    from filmstrip.schedulers import Scheduler


# What stands in a file beside the run itself, if the run was a job's.
_ABOUT: dict[str, Any] = {
    "record": Mapping[str, Any] | None,
    "fps": float | None,
    "has_sheet": bool | None,
    "told": Mapping[str, bool] | None,
}


@dataclass(frozen=True)
class KeptVideo:
    """A video whose making was cut off, and how it can be finished."""

    path: Path
    """The file that was kept of it, which is removed when it is finished."""
    unfinished: Unfinished
    job: Job
    """As far as it is known."""
    device: torch.device
    record: Mapping[str, object]
    fps: float
    has_sheet: bool
    told: Disclosure

    @property
    def target(self) -> Path:
        """Beside what is kept of it, under the name that it was to have; in the way of no other file."""
        named = PureWindowsPath(str(self.unfinished.about.get("target") or "")).name  # which knows both separators
        path = self.path.absolute()
        return unused(path.with_name(named) if is_single_part(named) else _beside(path))

    @property
    def notes(self) -> tuple[str, ...]:
        """What differs from what was asked for, and why."""
        return self.unfinished.request.size.adjustments


def read_kept(path: Path, device: str | None = None, *, is_local: bool = True) -> KeptVideo:
    """The video that a file was kept of; loads no weights.

    Args:
        device: another one than the video was begun on.
        is_local: whether a model that the file names comes from this machine alone; see `Job`.

    Raises:
        ValueError: it is no such file, or can't be finished here; one sentence says why.
    """
    from filmstrip.resume.unfinished import read_unfinished

    unfinished = read_unfinished(path)
    _check_about(unfinished, path)
    if unfinished.request.num_videos != 1:
        count = unfinished.request.num_videos
        raise ValueError(f"{path} holds {count} videos; finish them from Python with pipeline.finish({str(path)!r}).")
    job = _job(unfinished, path)
    job = replace(job, local=[job.model, *job.components.values()] if is_local else [])
    place, _ = check_placement(device or job.device, None)
    return KeptVideo(
        path=path,
        unfinished=unfinished,
        job=job,
        device=place,
        record=unfinished.about.get("record") or _record(unfinished),
        fps=unfinished.about.get("fps") or unfinished.request.size.frame_rate,
        has_sheet=bool(unfinished.about.get("has_sheet")),
        told=_told(unfinished.about.get("told")),
    )


def described_kept(path: Path) -> dict[str, object]:
    """What a file is known to have been kept of, with the entries of a video's metadata, and how far that is.

    Raises:
        ValueError: it is no such file.
    """
    from filmstrip.resume.unfinished import read_unfinished

    unfinished = read_unfinished(path)
    _check_about(unfinished, path)
    record = dict(unfinished.about.get("record") or _record(unfinished))
    loops = [loop.steps for loop in unfinished.loops]
    total = getattr(unfinished.request.arguments, "num_inference_steps", None) if len(loops) < 2 else None
    progress = {"is_denoised": unfinished.is_denoised, "steps_done": sum(loops), "steps": total}
    return {**record, "target": unfinished.about.get("target"), "unfinished": progress}


def finish_video(kept: KeptVideo, target: Path, tell: Tell, *, overwrite: bool = False) -> MadeVideo:
    """Finish a video into a file, and remove what was kept of it; stopped half-way, that stays as it is.

    Args:
        overwrite: whether the video replaces a file that is there.

    Raises:
        ValueError: the video can't be written there, or its checkpoint is gone.
    """
    check_targets([target], kept.fps, [str(kept.path)])
    with library_events(tell):
        made = _finished(kept, target, tell, overwrite)
    tell(made)
    return made


def _finished(kept: KeptVideo, target: Path, tell: Tell, overwrite: bool) -> MadeVideo:
    from filmstrip.assembly.runs import request_of
    from filmstrip.resume.journal import FileJournal

    begin = time.monotonic()
    tell(Advanced("load", 0, 1, 0.0))
    pipeline = _load(kept.unfinished, kept.job, kept.device)
    load_seconds = time.monotonic() - begin
    tell(Advanced("load", 1, 1, load_seconds))
    tell(Begun(1, 1, target))
    file = VideoFile(target, kept.fps, kept.record, kept.has_sheet, overwrite, kept.told)
    journal = FileJournal(kept.path, kept.unfinished.every, kept.unfinished.about, begun=kept.unfinished)
    made = write_video(pipeline, request_of(pipeline, kept.unfinished), file, tell, journal)
    return replace(made, stages={"load": load_seconds, **made.stages})


def _job(unfinished: Unfinished, path: Path) -> Job:
    record = unfinished.about.get("record")
    if record is not None:
        return job_of(record, path)
    if not unfinished.model:
        raise ValueError(
            f"{path} was kept of a pipeline that came from no checkpoint; finish it from Python with "
            f"pipeline.finish({str(path)!r})."
        )
    model, revision = place_of(unfinished.model, [path.parent]), unfinished.revision
    return Job(model, seed=0, pipeline=unfinished.pipeline, revisions={} if revision is None else {model: revision})


def _check_about(unfinished: Unfinished, path: Path) -> None:
    """See that what was written about a run is what is written about runs."""
    for name, hint in _ABOUT.items():
        check_written(f"{path} can't be finished: in it", name, unfinished.about.get(name), hint)


def _told(said: Mapping[str, bool] | None) -> Disclosure:
    names = {one.name for one in fields(Disclosure)}
    return Disclosure(**{name: value for name, value in (said or {}).items() if name in names})


def _load(unfinished: Unfinished, job: Job, device: torch.device) -> Pipeline:
    """The pipeline of a run, with the weights of those networks that are still needed."""
    outline = choose_pipeline(job)
    if not unfinished.is_denoised:
        scheduler = None
        if unfinished.scheduler:
            scheduler = _scheduler(unfinished.scheduler)
        first = next(iter(unfinished.dtypes.values()))
        return load_pipeline(outline, job, {"default": first, **unfinished.dtypes}, device, scheduler)
    own = {} if "vae" in job.components else {"subfolder": "vae"}
    source = job.components.get("vae", job.model)
    outline.vae = type(outline.vae).from_pretrained(
        source, **own, dtype=unfinished.dtypes["vae"], device=device, **job.access(source)
    )
    return outline


def _scheduler(written: str) -> Scheduler:
    """The scheduler that a run was begun with."""
    said = parse_json(written)
    if not fits(said, list[Any]) or len(said) != 2 or not fits(said, list[str | dict[str, Any]]):
        raise ValueError(f"the file's scheduler is {shown(said)}, not a class and its settings.")
    return find_scheduler(str(said[0])).from_config(said[1])


def _record(unfinished: Unfinished) -> dict[str, object]:
    """What is known of a run that was not a job's."""
    prompts = unfinished.request.prompts or (None,)
    names = ("model", "pipeline", "versions")
    return {"prompt": prompts[0], **{name: getattr(unfinished, name) for name in names}}


def _beside(path: Path) -> Path:
    name = path.name.removesuffix(KEPT_SUFFIX) if path.name.endswith(KEPT_SUFFIX) else path.stem
    return path.with_name(f"{name}.mp4")
