"""What is said of jobs and of videos that are made: facts for a person, and the same for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from filmstrip.jobs import MadeVideo, ResolvedJob
from filmstrip.jobs.calls import TELLING
from filmstrip.jobs.plans import plan_by_headers, plan_content
from filmstrip.jobs.resolution import resolve_next

if TYPE_CHECKING:
    from filmstrip.fitting.plan import Plan

Facts = list[tuple[str, str]]


def content_of_job(resolved: ResolvedJob, targets: Sequence[Path]) -> dict[str, object]:
    """What would be made, for JSON."""
    size = resolved.request.size
    plan, following = _plan(resolved), resolve_next(resolved)
    return {
        "model": resolved.job.model,
        **({"revisions": dict(resolved.job.revisions)} if resolved.job.revisions else {}),
        "pipeline": resolved.call.name,
        "scheduler": resolved.scheduler,
        "files": [str(target) for target in targets],
        "seed": resolved.job.seed,
        "fps": resolved.fps,
        "device": str(resolved.device),
        "settings": resolved.settings,
        "resolved": {**asdict(size), "seconds": size.num_frames / resolved.fps, "num_tokens": size.num_tokens},
        "adjustments": list(resolved.notes),
        **({} if following is None else {"then": content_of_job(following, targets)}),
        **({} if plan is None else {"memory": plan_content(plan)}),
    }


def facts_of_job(resolved: ResolvedJob, targets: Sequence[Path]) -> Facts:
    """What would be made, for a person."""
    size, fps = resolved.request.size, resolved.fps
    settings = resolved.settings
    shown = {name: settings[name] for name in TELLING if name in settings}
    plan = _plan(resolved)
    return [
        ("model", f"{resolved.job.model} ({resolved.call.name})"),
        *_continued("revision", [f"{commit} of {name}" for name, commit in resolved.job.revisions.items()]),
        *_continued("file", [str(target) for target in targets]),
        ("frames", f"{size.num_frames} ({size.generated_frames} generated), {_seconds(size.num_frames / fps)}"),
        ("size", f"{size.width}x{size.height} at {fps:g} fps"),
        ("latents", f"{'x'.join(map(str, size.latent_size))} (frames, height, width): {size.num_tokens} tokens"),
        *([("scheduler", resolved.scheduler)] if resolved.scheduler else []),
        *((name.replace("num_inference_", "").replace("_", " "), str(value)) for name, value in shown.items()),
        ("seed", str(resolved.job.seed)),
        ("device", str(resolved.device)),
        *_continued("adjusted", resolved.notes),
        *_facts_of_next(resolved),
        *(() if plan is None else plan.lines()),
    ]


def _facts_of_next(resolved: ResolvedJob) -> Facts:
    following = resolve_next(resolved)
    if following is None:
        return []
    size, model = following.request.size, f"{following.job.model} ({following.call.name})"
    made = f"{size.num_frames} frames of {size.width}x{size.height} at {following.fps:g} fps"
    return [("then", f"{model}: {made}"), *_continued("adjusted", following.notes), *_facts_of_next(following)]


def _plan(resolved: ResolvedJob) -> Plan | None:
    """How the job fits into the memory that was given, if one was."""
    job = resolved.job
    if job.memory is None:
        return None
    where = resolved.outline, resolved.request, resolved.device
    how = job.memory, resolved.dtype, job.quantize
    plan, _ = plan_by_headers(job.model, *where, *how, access=job.access(job.model))
    return plan


def content_of_videos(made: Sequence[MadeVideo], notes: Sequence[str]) -> dict[str, object]:
    """What was made, for JSON."""
    return {
        "files": [
            {
                "path": str(video.path),
                "seed": video.seed,
                "num_frames": video.num_frames,
                "width": video.width,
                "height": video.height,
                "fps": video.fps,
                "contact_sheet": video.contact_sheet and str(video.contact_sheet),
                "seconds": dict(video.stages),
                "cut_off": list(video.cut_off),
            }
            for video in made
        ],
        **{name: value for name, value in made[0].record.items() if name != "seed"},
        "adjustments": list(notes),
    }


def facts_of_videos(made: Sequence[MadeVideo], notes: Sequence[str]) -> Facts:
    """What was made, for a person."""
    first = made[0]
    stages = {
        stage: sum(video.stages.get(stage, 0.0) for video in (made[:1] if stage == "load" else made))
        for stage in first.stages
    }
    sheets = [str(video.contact_sheet) for video in made if video.contact_sheet is not None]
    return [
        *_continued("file", [str(video.path) for video in made]),
        *_continued("contact sheet", sheets),
        ("frames", f"{first.num_frames}, {_seconds(first.num_frames / first.fps)}"),
        ("size", f"{first.width}x{first.height} at {first.fps:g} fps"),
        ("took", ", ".join(f"{stage} {_seconds(seconds)}" for stage, seconds in stages.items())),
        ("seed", ", ".join(str(video.seed) for video in made)),
        *_continued("adjusted", notes),
        *_continued("not used", [f"this end of the prompt: {part!r}" for part in first.cut_off]),
    ]


def _continued(name: str, values: Sequence[str]) -> Facts:
    return [(name if index == 0 else "", value) for index, value in enumerate(values)]


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:.0f} s"
