"""What is written down with a video, and how to make the same one from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filmstrip.hints import fits, members, words_of
from filmstrip.jobs.calls import TEXTS
from filmstrip.jobs.job import Disclosure, Job, Source
from filmstrip.jobs.resolution import ResolvedJob
from filmstrip.json_files import shown
from filmstrip.sharing import place_of, shared_name

if TYPE_CHECKING:
    from filmstrip.assembly import Pipeline

# What a record has to hold for a job to be made of it; the settings are arguments, which the call itself checks.
_ENTRIES: dict[str, Any] = {
    **dict.fromkeys(TEXTS, str | list[str] | None),
    "seed": int,
    "model": str,
    "pipeline": str,
    "settings": Mapping[str, Any],
    "fps": float,
    "inputs": Mapping[str, Mapping[str, Any]],
    "components": Mapping[str, str] | None,
    "revisions": Mapping[str, str] | None,
    "scheduler": str | None,
    "device": str,
    "dtype": str,
    "memory": str | None,
    "quantize": str | None,
    "versions": Mapping[str, str] | None,
    "before": Mapping[str, Any] | None,
}
_SOURCE: dict[str, Any] = {
    "source": str,
    "num_frames": int | None,
    "is_edges": bool | None,
    "fit": str | None,
    "pixels_sha256": str,
}


def record_of(
    resolved: ResolvedJob,
    pipeline: Pipeline,
    seed: int,
    told: Disclosure,
    before: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """A video's metadata: the same for the same video, so it holds no times.

    Args:
        before: those of the video that this one was made of in another pass.
    """
    from filmstrip.resume.unfinished import versions

    job, settings = resolved.job, resolved.settings
    texts = {name: settings.pop(name, None) for name in TEXTS}
    scheduler = pipeline.components.get("scheduler")
    components = {name: _model(one, told) for name, one in job.components.items()}
    return {
        **texts,
        "seed": seed,
        "model": _model(job.model, told),
        "pipeline": type(pipeline).__name__,
        "settings": settings,
        "fps": resolved.fps,
        "inputs": {name: {**one.record, "source": _place(one.source, told)} for name, one in resolved.inputs.items()},
        **({"components": components} if components else {}),
        **({"revisions": dict(job.revisions)} if job.revisions else {}),
        "scheduler": None if scheduler is None else type(scheduler).__name__,
        "device": str(resolved.device),
        "dtype": job.dtype or "auto",
        **({} if job.memory is None else {"memory": job.memory}),
        **({} if job.quantize is None else {"quantize": job.quantize}),
        "network_dtypes": {
            name: str(next(network.parameters()).dtype).removeprefix("torch.")
            for name, network in pipeline.networks.items()
        },
        "versions": versions(),
        **({} if before is None else {"before": dict(before)}),
    }


def told_of(record: Mapping[str, object], told: Disclosure) -> dict[str, object]:
    """As much of a video's metadata as is told with it."""
    if not told.anything:
        return {}
    kept = {name: None if name in TEXTS and not told.prompt else value for name, value in record.items()}
    before = kept.get("before")
    return {**kept, "before": told_of(before, told)} if isinstance(before, Mapping) else kept


def _model(name: str, told: Disclosure) -> str:
    from filmstrip.resume.unfinished import lasting_name

    lasting = lasting_name(name)
    return str(Path(name).absolute()) if lasting != name and told.paths else lasting


def _place(source: str, told: Disclosure) -> str:
    from filmstrip.media.places import is_address, public_address

    if is_address(source):
        return public_address(source)
    return source if told.paths else shared_name(source)


def job_of(record: Mapping[str, Any], made: Path) -> Job:
    """The job that made a video, with nothing but what this machine has.

    Files and folders are looked for where they were, here, and beside the video.

    Args:
        made: the video.

    Raises:
        ValueError: the record is not one of `record_of`.
    """
    for name, hint in _ENTRIES.items():
        if name not in record and type(None) not in members(hint):
            raise ValueError(f"{made} was not made by `filmstrip generate`: its metadata lack {name!r}.")
        _check(made, name, record.get(name), hint)
    if (before := record.get("before")) is not None:
        first = job_of(before, made)
        last = {name: value for name, value in record.items() if name != "before"}
        inputs = {name: value for name, value in record["inputs"].items() if name != "video"}
        return replace(first, then=(*first.then, job_of({**last, "inputs": inputs}, made)))
    arguments = {**record["settings"], **{name: record.get(name) for name in TEXTS}}
    model = place_of(record["model"], [made.parent])
    parts = {name: place_of(one, [made.parent]) for name, one in (record.get("components") or {}).items()}
    return Job(
        model=model,
        seed=record["seed"],
        arguments={name: value for name, value in arguments.items() if value is not None},
        inputs={name: _source_of(entry, made) for name, entry in record["inputs"].items()},
        fps=float(record["fps"]),
        components=parts,
        local=[model, *parts.values()],
        revisions=record.get("revisions") or {},
        pipeline=record["pipeline"],
        scheduler=record.get("scheduler"),
        device=record["device"],
        dtype=record["dtype"],
        memory=record.get("memory"),
        quantize=record.get("quantize"),
    )


def _check(made: Path, name: str, value: object, hint: Any) -> None:
    check_written(f"{made} can't be made again: in its metadata", name, value, hint)


def check_written(where: str, name: str, value: object, hint: Any) -> None:
    """See that what is written down under a name is of a type; `where` begins the sentence that says otherwise."""
    if not fits(value, hint):
        raise ValueError(f"{where} {name} is {shown(value)}, not {words_of(hint)}.")


def _source_of(entry: Mapping[str, Any], made: Path) -> Source:
    for name, hint in _SOURCE.items():
        _check(made, f"the {name} of an input", entry.get(name), hint)
    return Source(
        place=place_of(entry["source"], [made.parent]),
        num_frames=entry.get("num_frames"),
        is_edges=bool(entry.get("is_edges")),
        fit=entry.get("fit") or "stretch",  # what was done before it was written down
        pixels_sha256=entry["pixels_sha256"],
        made=str(made),
    )
