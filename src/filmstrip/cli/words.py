"""From the words of a command line to a job."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filmstrip.jobs import Job, Source
from filmstrip.jobs.calls import CHANGES, OPTIONS, SIDES, TEXTS, parse_sides
from filmstrip.json_files import shown

_CALLED_OTHERWISE = {"num_inference_steps": "steps"}
INPUTS = ("image", "video", "control_video")
_WHERE = ("device", "dtype", "memory", "quantize")
_ALIKE = ("num_videos", "seconds", "fps", "scheduler", "device", "dtype", "memory", "quantize")


def job_of_words(options: Mapping[str, Any], model: str) -> Job:
    """The job that the options of the command ask for, as `app.generate` names them; a seed is drawn if none is given.

    Raises:
        ValueError: an option makes no sense by itself.
    """
    arguments = _arguments(options)
    components, revisions = _components(options["component"] or ())
    return Job(
        model=model,
        seed=secrets.randbelow(2**32) if options["seed"] is None else options["seed"],
        arguments=arguments,
        said={name: OPTIONS[name] for name in arguments},
        assignments=tuple(options["set_"] or ()),
        inputs=_inputs(options, {}),
        components=components,
        revisions=revisions | _revision_of(model, options),
        then=_then(options, arguments),
        **{name: options[name] for name in _ALIKE},
    )


def changed_by_words(job: Job, options: Mapping[str, Any]) -> Job:
    """A job that is done again, with what the options of the command ask for in place of what it had.

    Raises:
        ValueError: an option makes no sense by itself.
    """
    from filmstrip.jobs.calls import LENGTH, RATE, PipelineCall
    from filmstrip.registry import resolve_class

    arguments = _arguments(options)
    components, revisions = _components(options["component"] or ())
    inputs = _inputs(options, job.inputs)
    kept = dict(job.arguments)
    call = None if job.pipeline is None else PipelineCall(resolve_class("filmstrip", job.pipeline))
    if call is not None and (options["seconds"] is not None or LENGTH in arguments):
        kept.pop(call.length or LENGTH, None)
    if options["fps"] is not None:
        kept.pop((call and call.rate) or RATE, None)
    texts = {name: text for name, text in arguments.items() if name in TEXTS}
    where: dict[str, Any] = {name: options[name] for name in _WHERE if options[name] is not None}
    then = []
    for one in job.then:
        own = {name: text for name, text in texts.items() if name in one.arguments}
        then.append(replace(one, arguments={**one.arguments, **own}, **where))
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
        revisions={**job.revisions, **revisions, **_revision_of(changes.get("model", job.model), options)},
        pipeline=None if is_other else job.pipeline,
        then=_then(options, kept | arguments) or tuple(then),
        **changes,
    )


def _then(options: Mapping[str, Any], arguments: Mapping[str, object]) -> tuple[Job, ...]:
    """The passes that follow: those of --then, in turn, each with its size and strength, and the first one's texts."""
    models, sizes, strengths = (options[name] or [] for name in ("then", "then_size", "then_strength"))
    for name, values in (("--then-size", sizes), ("--then-strength", strengths)):
        if len(values) > len(models):
            raise ValueError(f"{name} was given {len(values)} times and --then {len(models)}; give one for each pass.")
    alike = {name: options[name] for name in _WHERE}
    texts = {name: text for name, text in arguments.items() if name in TEXTS}
    passes = []
    for number, named in enumerate(models):
        model, revisions = _with_revision(named)
        sides = parse_sides(sizes[number]) if number < len(sizes) else {}
        change = {CHANGES: strengths[number]} if number < len(strengths) else {}
        said = {**dict.fromkeys(sides, "--then-size"), CHANGES: "--then-strength"}
        given: dict[str, Any] = {"arguments": sides | change, "said": said, "where_taken": texts}
        passes.append(Job(model, seed=0, revisions=revisions, **given, **alike))
    return tuple(passes)


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


def _revision_of(model: str, options: Mapping[str, Any]) -> dict[str, str]:
    return {} if options["revision"] is None else {model: options["revision"]}


def _components(given: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Component to its checkpoint, and repository to the revision that counts."""
    found: dict[str, str] = {}
    revisions: dict[str, str] = {}
    for one in given:
        name, sign, model = one.partition("=")
        if not (name and sign and model):
            raise ValueError(f"--component takes NAME=MODEL, such as controlnet=org/name, got {shown(one)}.")
        if name in found:
            raise ValueError(f"--component {name} was given twice; give it once.")
        found[name], more = _with_revision(model)
        revisions |= more
    return found, revisions


def _with_revision(model: str) -> tuple[str, dict[str, str]]:
    """A model of MODEL[@REVISION], and it with its revision if one is named."""
    name, at, revision = (model, "", "") if Path(model).exists() else model.partition("@")
    return name, {name: revision} if at else {}
