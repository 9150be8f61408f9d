"""What is written down with a video, and how to make the same one from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filmstrip.jobs.calls import TEXTS
from filmstrip.jobs.job import Disclosure, Job, Source
from filmstrip.jobs.resolution import ResolvedJob
from filmstrip.sharing import place_of, shared_name

if TYPE_CHECKING:
    from filmstrip.assembly import Pipeline


def record_of(resolved: ResolvedJob, pipeline: Pipeline, seed: int, told: Disclosure) -> dict[str, object]:
    """A video's metadata: the same for the same video, so it holds no times."""
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
    }


def told_of(record: Mapping[str, object], told: Disclosure) -> dict[str, object]:
    """As much of a video's metadata as is told with it."""
    if not told.anything:
        return {}
    return {name: None if name in TEXTS and not told.prompt else value for name, value in record.items()}


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
    try:
        arguments = {**record["settings"], **{name: record[name] for name in TEXTS}}
        model = place_of(str(record["model"]), [made.parent])
        parts = {str(name): place_of(str(one), [made.parent]) for name, one in record.get("components", {}).items()}
        return Job(
            model=model,
            seed=int(record["seed"]),
            arguments={name: value for name, value in arguments.items() if value is not None},
            inputs={str(name): _source_of(dict(entry), made) for name, entry in record["inputs"].items()},
            fps=float(record["fps"]),
            components=parts,
            local=[model, *parts.values()],
            pipeline=str(record["pipeline"]),
            scheduler=record["scheduler"],
            device=str(record["device"]),
            dtype=str(record["dtype"]),
            memory=record.get("memory"),
            quantize=record.get("quantize"),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{made} was not made by `filmstrip generate`: its metadata lack {error}; rerun needs all of them."
        ) from error


def _source_of(entry: Mapping[str, Any], made: Path) -> Source:
    return Source(
        place=place_of(str(entry.get("source", "")), [made.parent]),
        num_frames=entry.get("num_frames"),
        is_edges=bool(entry.get("is_edges")),
        fit=str(entry.get("fit", "stretch")),  # what was done before it was written down
        pixels_sha256=str(entry.get("pixels_sha256")),
        made=str(made),
    )
