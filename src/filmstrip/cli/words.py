"""From the words of a command line to a job."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from filmstrip.jobs import Job, Source
from filmstrip.jobs.calls import OPTIONS, SIDES, parse_sides

_CALLED_OTHERWISE = {"num_inference_steps": "steps"}
INPUTS = ("image", "video", "control_video")
_ALIKE = ("num_videos", "seconds", "fps", "scheduler", "device", "dtype", "memory", "quantize")


def job_of_words(options: Mapping[str, Any], model: str) -> Job:
    """The job that the options of the command ask for, as `app.generate` names them; a seed is drawn if none is given.

    Raises:
        ValueError: an option makes no sense by itself.
    """
    arguments = _arguments(options)
    return Job(
        model=model,
        seed=secrets.randbelow(2**32) if options["seed"] is None else options["seed"],
        arguments=arguments,
        said={name: OPTIONS[name] for name in arguments},
        assignments=tuple(options["set_"] or ()),
        inputs=_inputs(options, {}),
        components=_components(options["component"] or ()),
        **{name: options[name] for name in _ALIKE},
    )


def changed_by_words(job: Job, options: Mapping[str, Any]) -> Job:
    """A job that is done again, with what the options of the command ask for in place of what it had.

    Raises:
        ValueError: an option makes no sense by itself.
    """
    from filmstrip.jobs.calls import LENGTH, RATE, PipelineCall
    from filmstrip.registry import resolve_class

    arguments, components = _arguments(options), _components(options["component"] or ())
    inputs = _inputs(options, job.inputs)
    kept = dict(job.arguments)
    call = None if job.pipeline is None else PipelineCall(resolve_class("filmstrip", job.pipeline))
    if call is not None and (options["seconds"] is not None or LENGTH in arguments):
        kept.pop(call.length or LENGTH, None)
    if options["fps"] is not None:
        kept.pop((call and call.rate) or RATE, None)
    is_other = bool(inputs.keys() - job.inputs.keys() or components) or options["model"] is not None
    given = {name: options[name] for name in (*_ALIKE, "model", "seed")}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(
        job,
        arguments=kept | arguments,
        said={name: OPTIONS[name] for name in arguments},
        assignments=tuple(options["set_"] or ()),
        inputs=inputs,
        components={**job.components, **components},
        pipeline=None if is_other else job.pipeline,
        **changes,
    )


def _arguments(options: Mapping[str, Any]) -> dict[str, object]:
    names = [name for name in OPTIONS if name not in SIDES]
    given = {name: options[_CALLED_OTHERWISE.get(name, name)] for name in names}
    if options["size"] is not None:
        given |= parse_sides(options["size"])
    return {name: value for name, value in given.items() if value is not None}


def _inputs(options: Mapping[str, Any], before: Mapping[str, Source]) -> dict[str, Source]:
    if options["edges"] and options["control_video"] is None:
        raise ValueError("--edges are those of a --control-video, and none was given.")
    names = [name for name in INPUTS if options[name] is not None]
    fit, edges = options["fit"], options["edges"]
    if fit is not None and not (names or before):
        raise ValueError("--fit is of an --image, --video or --control-video, and none was given.")
    found = {name: one if fit is None else replace(one, fit=fit) for name, one in before.items()}
    for name in names:
        found[name] = Source(options[name], is_edges=name == "control_video" and edges, fit=fit or Source.fit)
    return found


def _components(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        name, sign, model = one.partition("=")
        if not (name and sign and model):
            raise ValueError(f"--component takes NAME=MODEL, such as controlnet=org/name, got {one!r}.")
        if name in found:
            raise ValueError(f"--component {name} was given twice; give it once.")
        found[name] = model
    return found
