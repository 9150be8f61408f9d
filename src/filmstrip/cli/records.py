"""What is written down with a video, and how to make the same one from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filmstrip.cli.inputs import read_recorded
from filmstrip.cli.plans import Job, Plan

if TYPE_CHECKING:
    from filmstrip.generation import Pipeline


def record_of(plan: Plan, pipeline: Pipeline, seed: int) -> dict[str, Any]:
    """A video's metadata: the same for the same video, so it holds no times."""
    from filmstrip.generation.keeping import lasting_name, versions

    settings = plan.settings
    prompts = {name: settings.pop(name, None) for name in ("prompt", "negative_prompt")}
    scheduler = pipeline.components.get("scheduler")
    return {
        **prompts,
        "seed": seed,
        "model": lasting_name(plan.job.model),
        "pipeline": type(pipeline).__name__,
        "settings": settings,
        "fps": plan.fps,
        "inputs": {name: one.record for name, one in plan.job.inputs.items()},
        **(
            {"components": components}
            if (components := {name: lasting_name(one) for name, one in plan.job.components.items()})
            else {}
        ),
        "scheduler": None if scheduler is None else type(scheduler).__name__,
        "device": str(plan.device),
        "dtype": plan.job.dtype or "auto",
        **({} if plan.job.memory is None else {"memory": plan.job.memory}),
        **({} if plan.job.quantize is None else {"quantize": plan.job.quantize}),
        "network_dtypes": {
            name: str(next(network.parameters()).dtype).removeprefix("torch.")
            for name, network in pipeline.networks.items()
        },
        "versions": versions(),
    }


def job_of(record: Mapping[str, Any], made: Path, *, with_inputs: bool = True) -> Job:
    """The job that made a video.

    Args:
        made: the video, for messages.
        with_inputs: read the pictures and clips that it was made from, too.

    Raises:
        ValueError: the record is not one of `record_of`, or what the video was made from is gone or changed.
    """
    try:
        arguments = {**record["settings"], "prompt": record["prompt"], "negative_prompt": record["negative_prompt"]}
        job = Job(
            model=str(record["model"]),
            seed=int(record["seed"]),
            arguments={name: ("", value) for name, value in arguments.items() if value is not None},
            fps=float(record["fps"]),
            components={str(name): str(model) for name, model in record.get("components", {}).items()},
            pipeline=str(record["pipeline"]),
            scheduler=record["scheduler"],
            device=str(record["device"]),
            dtype=str(record["dtype"]),
            memory=record.get("memory"),
            quantize=record.get("quantize"),
        )
        inputs = {str(name): dict(entry) for name, entry in record["inputs"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{made} was not made by `filmstrip generate`: its metadata lack {error}; rerun needs all of them."
        ) from error
    if not with_inputs:
        return job
    found = {name: read_recorded(name, entry, made) for name, entry in inputs.items()}
    return replace(job, inputs=found)
