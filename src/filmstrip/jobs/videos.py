"""Carry out a resolved job: load, generate, and write each video while it is decoded."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filmstrip.files import partial_path, remove, settle
from filmstrip.jobs.components import load_pipeline
from filmstrip.jobs.events import Advanced, Begun, Kept, Learned, MadeVideo, Noted, Tell
from filmstrip.jobs.job import EVERYTHING, Disclosure
from filmstrip.jobs.notes import library_events
from filmstrip.jobs.records import record_of, told_of
from filmstrip.jobs.resolution import ResolvedJob, generator_of
from filmstrip.jobs.targets import check_room, check_targets, kept_path, sheet_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from filmstrip.assembly import Pipeline
    from filmstrip.generation.request import Request
    from filmstrip.resume.journal import FileJournal

SHEET_FRAMES = 16


def make_pass(
    resolved: ResolvedJob,
    targets: list[Path],
    tell: Tell,
    *,
    pipeline: Pipeline | None = None,
    has_sheet: bool = False,
    every: int | None = None,
    overwrite: bool = False,
    told: Disclosure = EVERYTHING,
    before: Mapping[str, object] | None = None,
) -> list[MadeVideo]:
    """Make the videos of a job without the passes that follow, one for each target, each whole or not at all.

    Several videos are made one after the other, so that each is the one that its own seed gives.

    Args:
        tell: is handed each event; what it raises ends the job, of which `finish_video` goes on from what is kept.
        pipeline: as `load` made it for this job or one like it; it is loaded if left out.
        has_sheet: also write a PNG of the frames beside each video.
        every: after how many steps what is done is kept; without it, before the frames are decoded.
        overwrite: whether the videos replace files that are there.
        told: what the videos say of how they were made; by default everything, but names in place of paths.
        before: the record of the video that these are made of in another pass.

    Raises:
        ValueError: a video can't be written to its target.
    """
    sources = [one.source for one in resolved.inputs.values()]
    check_targets(targets, resolved.fps, sources)
    size = resolved.request.size
    check_room(targets, size.num_frames, size.height, size.width)
    for sentence in resolved.notes:
        tell(Noted(sentence))
    with library_events(tell):
        pipeline, fitted, load_seconds = _prepared(resolved, pipeline, tell)
        videos = []
        for number, target in enumerate(targets):
            tell(Begun(number + 1, len(targets), target))
            seed = resolved.job.seed + number
            record = record_of(resolved, pipeline, seed, told, before)
            file = VideoFile(target, resolved.fps, record, has_sheet, overwrite, told)
            request = replace(fitted, generator=generator_of(seed))
            made = write_video(pipeline, request, file, tell, file.journal(every))
            videos.append(replace(made, stages={"load": load_seconds, **made.stages}))
            tell(videos[-1])
    return videos


def _prepared(resolved: ResolvedJob, pipeline: Pipeline | None, tell: Tell) -> tuple[Pipeline, Request[Any], float]:
    """The pipeline with its weights, the request as it is made within the job's memory, and the seconds it took."""
    begin = time.monotonic()
    tell(Advanced("load", 0, 1, 0.0))
    if pipeline is None:
        pipeline = load(resolved)
    for name, report in pipeline.quantized.items():
        tell(Learned("quantized", f"{name}, {report}"))
    fitted = _fitted(resolved, pipeline, tell)
    load_seconds = time.monotonic() - begin
    tell(Advanced("load", 1, 1, load_seconds))
    return pipeline, fitted, load_seconds


def load(resolved: ResolvedJob) -> Pipeline:
    """The pipeline of a job, with its weights: `make` takes it, for this job and for others of the same model."""
    scheduler = None if resolved.job.scheduler is None else resolved.outline.scheduler
    # What is planned for comes to the device as the plan says.
    # On the CPU then, but in the type that suits the device.
    is_planned = resolved.job.memory is not None
    place = None if is_planned and resolved.device.type != "cpu" else resolved.device
    return load_pipeline(resolved.outline, resolved.job, {"default": resolved.dtype}, place, scheduler)


def _fitted(resolved: ResolvedJob, pipeline: Pipeline, tell: Tell) -> Request[Any]:
    """The request as it is made within the job's memory, for which the pipeline is set."""
    from filmstrip.fitting.plan import fit

    if resolved.job.memory is None:
        return resolved.request
    request = fit(pipeline, resolved.request, resolved.device, resolved.job.memory)
    for name, said in pipeline.plan.lines() if pipeline.plan else ():
        tell(Learned(name, said))
    return request


@dataclass(frozen=True)
class VideoFile:
    """Where a video goes, and what goes there beside its frames."""

    path: Path
    fps: float
    record: Mapping[str, object]
    has_sheet: bool = False
    overwrite: bool = False
    told: Disclosure = EVERYTHING

    def journal(self, every: int | None) -> FileJournal:
        """What keeps the video until it is whole, so that `finish_video` knows where it goes."""
        from filmstrip.resume.journal import FileJournal

        about = {
            "record": self.record,
            "target": self.path.name,
            "fps": self.fps,
            "has_sheet": self.has_sheet,
            "told": asdict(self.told),
        }
        return FileJournal(kept_path(self.path), every, about)


def write_video(
    pipeline: Pipeline, request: Request[Any], file: VideoFile, tell: Tell, journal: FileJournal
) -> MadeVideo:
    """Generate one video into a file; stopped half-way, it leaves none, but what the journal has kept."""
    from filmstrip.generation import run
    from filmstrip.media import VideoWriter, video_to_output

    size = request.size
    samples = _Samples(size.num_frames)
    metadata = told_of(file.record, file.told)
    sheet: Path | None = None
    seconds, stages, cut_off = 0.0, {}, ()
    try:
        with (
            VideoWriter(file.path, file.fps, metadata=metadata, overwrite=file.overwrite) as writer,
            closing(run(pipeline, request, journal, collect=False)) as events,
        ):
            for event in events:
                seconds = event.seconds
                for sentence in event.notes:
                    tell(Noted(sentence, is_urgent=sentence == journal.trouble))
                if event.frames is not None:
                    frames = video_to_output(event.frames, "uint8")[0]
                    writer.write(frames)
                    if file.has_sheet:
                        samples.add(frames)
                if event.stage == "done":
                    stages, cut_off = event.output.report.seconds, tuple(filter(None, event.output.report.cut_off))
                else:
                    tell(Advanced(event.stage, event.step, event.total, seconds))
            tell(Advanced("write", 0, 1, seconds))
        if file.has_sheet:
            sheet = samples.save(sheet_path(writer.path))
    except BaseException:
        if journal.trouble is not None:
            tell(Noted(journal.trouble, is_urgent=True))
        if journal.path is not None and journal.is_kept:
            tell(Kept(journal.path, file.path))
        raise
    journal.remove()
    tell(Advanced("write", 1, 1, seconds))
    seed = file.record.get("seed")
    assert seed is None or isinstance(seed, int), "the record says it, if it is one of a job"
    return MadeVideo(
        path=writer.path,
        seed=seed,
        num_frames=size.num_frames,
        width=size.width,
        height=size.height,
        fps=file.fps,
        record=file.record,
        stages=stages,
        cut_off=cut_off,
        contact_sheet=sheet,
    )


class _Samples:
    """The evenly spaced frames of a video that its contact sheet shows; the others are not kept."""

    def __init__(self, num_frames: int) -> None:
        last = num_frames - 1
        count = min(num_frames, SHEET_FRAMES)
        self._wanted = {round(index * last / max(count - 1, 1)) for index in range(count)}
        self._frames: list[NDArray[np.uint8]] = []
        self._seen = 0

    def add(self, frames: NDArray[np.uint8]) -> None:
        self._frames += [frame.copy() for index, frame in enumerate(frames, self._seen) if index in self._wanted]
        self._seen += len(frames)

    def save(self, path: Path) -> Path:
        """Write them, and return where: nobody named this file, so it replaces none."""
        from filmstrip.media import contact_sheet

        partial = partial_path(path)
        try:
            contact_sheet(self._frames, max_frames=SHEET_FRAMES).save(partial, format="png")
            return settle(partial, path, may_replace=False)
        finally:
            remove(partial)
