"""Carry out a plan: load, generate, and write each video while it is decoded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filmstrip.cli.plans import Job, Plan, generator_of
from filmstrip.cli.progress import Progress, note
from filmstrip.cli.records import record_of
from filmstrip.cli.targets import kept_path, sheet_path

if TYPE_CHECKING:
    import torch

    from filmstrip.generation import Pipeline
    from filmstrip.generation.request import Request

SHEET_FRAMES = 16


@dataclass
class Made:
    """A finished video."""

    path: Path
    seed: int | None
    num_frames: int
    width: int
    height: int
    fps: float
    record: dict[str, Any]
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds of each stage."""
    cut_off: tuple[str, ...] = ()
    """What of the prompt did not count."""
    contact_sheet: Path | None = None


def make_videos(
    plan: Plan, targets: list[Path], progress: Progress, *, has_sheet: bool, every: int | None = None
) -> Iterator[Made]:
    """Yield each video when its file is whole.

    Several videos are made one after the other, so that each is the one that its own seed gives.

    Args:
        every: after how many steps what is done is kept.
    """
    from filmstrip.generation.fitting import fit
    from filmstrip.generation.keeping import Keeper

    begin = time.monotonic()
    progress.update("load", 0, 1, 0.0)
    scheduler = None if plan.job.scheduler is None else plan.outline.scheduler
    # What is planned for comes to the device as the plan says.
    # On the CPU then, but in the type that suits the device.
    is_planned = plan.job.memory is not None
    place = None if is_planned and plan.device.type != "cpu" else plan.device
    pipeline = load(plan.outline, plan.job, plan.dtype, place, scheduler)
    progress.say(("quantized", f"{name}, {report}") for name, report in pipeline.quantized.items())
    fitted = plan.request
    if is_planned:
        fitted = fit(pipeline, plan.request, plan.device, plan.job.memory)
        progress.say(pipeline.plan.lines() if pipeline.plan else ())
    load_seconds = time.monotonic() - begin
    progress.update("load", 1, 1, load_seconds)
    for number, target in enumerate(targets):
        progress.begin(f"video {number + 1} of {len(targets)}: " if len(targets) > 1 else "")
        seed = plan.job.seed + number
        record = record_of(plan, pipeline, seed)
        about = {"record": record, "target": str(target.absolute()), "fps": plan.fps, "has_sheet": has_sheet}
        keeper = Keeper(kept_path(target), every, about)
        request = replace(fitted, generator=generator_of(seed), keeper=keeper)
        made = make_video(pipeline, request, target, plan.fps, record, progress, has_sheet)
        made.stages = {"load": load_seconds, **made.stages}
        yield made


def load(outline: Pipeline, job: Job, dtype: Any, device: torch.device | None, scheduler: Any = None) -> Pipeline:
    """The pipeline of an outline, with its weights.

    Args:
        job: names the model, and the checkpoints of other components.
        dtype: one type for all networks, or a dictionary of types.
        scheduler: in place of the checkpoint's.
    """
    types = dtype if isinstance(dtype, dict) else {"default": dtype}
    # In few bits weights may fit on a device on which they did not as they were stored; int4 is packed for its device.
    first = device if job.quantize in (None, "int4") else "cpu"
    parts: dict[str, Any] = {}
    for name, model in job.components.items():
        kind = type(outline.components[name])
        parts[name] = kind.from_pretrained(model, dtype=types.get(name, types["default"]), device=first)
    if scheduler is not None:
        parts["scheduler"] = scheduler
    pipeline = type(outline).from_pretrained(job.model, dtype=dtype, device=first, **parts)
    if job.quantize is not None:
        pipeline.quantize(job.quantize)
        pipeline.to(device)
    return pipeline


def make_video(
    pipeline: Any, request: Request, target: Path, fps: float, record: dict[str, Any], progress: Progress, sheet: bool
) -> Made:
    """Generate one video into a file; stopped half-way, it leaves none, but what the request's keeper has kept."""
    from filmstrip.generation import run
    from filmstrip.media import VideoWriter, video_to_output

    size, keeper = request.size, request.keeper
    assert keeper is not None, "whoever makes a video says where it is kept until it is whole"
    made = Made(target, record.get("seed"), size.num_frames, size.width, size.height, fps, record)
    samples = _Samples(size.num_frames)
    try:
        with VideoWriter(target, fps, metadata=record) as writer:
            for event in run(pipeline, request, collect=False):
                progress.show(event)
                if event.frames is not None:
                    frames = video_to_output(event.frames, "uint8")[0]
                    writer.write(frames)
                    if sheet:
                        samples.add(frames)
                if event.stage == "done":
                    report = event.output.report
                    made.stages, made.cut_off = report.seconds, tuple(filter(None, report.cut_off))
        if sheet:
            made.contact_sheet = samples.save(sheet_path(target))
    except BaseException:
        if keeper.is_kept:
            note(f"what is done is kept in {keeper.path}; `filmstrip decode {keeper.path}` goes on from there.")
        raise
    keeper.remove()
    return made


class _Samples:
    """The evenly spaced frames of a video that its contact sheet shows; the others are not kept."""

    def __init__(self, num_frames: int) -> None:
        last = num_frames - 1
        count = min(num_frames, SHEET_FRAMES)
        self._wanted = {round(index * last / max(count - 1, 1)) for index in range(count)}
        self._frames: list[Any] = []
        self._seen = 0

    def add(self, frames: Any) -> None:
        self._frames += [frame.copy() for index, frame in enumerate(frames, self._seen) if index in self._wanted]
        self._seen += len(frames)

    def save(self, path: Path) -> Path:
        from filmstrip.media import contact_sheet
        from filmstrip.media.formats import partial_path

        partial = partial_path(path)
        try:
            contact_sheet(self._frames, max_frames=SHEET_FRAMES).save(partial, format="png")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path
