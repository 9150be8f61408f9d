"""The pipeline of a job: which one it is, where it computes, and its components without and with weights."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from filmstrip.jobs.calls import PipelineCall, task_of
from filmstrip.jobs.job import Job
from filmstrip.json_files import shown

if TYPE_CHECKING:
    import torch

    from filmstrip.assembly import Pipeline
    from filmstrip.schedulers import Scheduler


def check_placement(device: str | None, dtype: str | None) -> tuple[torch.device, torch.dtype | None]:
    """The device and type of the weights, if this machine has them; None keeps the type that the files have."""
    from filmstrip.checkpoints import requested_dtype
    from filmstrip.devices import parse_device, supports_dtype

    place = parse_device(device)
    if place.type == "meta":
        raise ValueError("the device 'meta' holds no numbers, so it makes no video; use --dry-run to make none.")
    wanted = requested_dtype(dtype=dtype)
    if wanted is not None and not supports_dtype(place, wanted):
        raise ValueError(f"the device {str(place)!r} has no {dtype}; give another --dtype, such as float32.")
    return place, wanted


def check_quantization(job: Job, device: torch.device, dtype: torch.dtype | None) -> None:
    """See that this machine can quantise weights as a job says."""
    from filmstrip.memory.quantization import check_kind

    assert job.quantize is not None, "only asked of jobs that quantise"
    check_kind(job.quantize, device, dtype)
    if job.quantize == "int4" and job.memory is not None and device.type != "cpu":
        raise ValueError(
            f"int4 is packed where it computes, and --memory keeps weights off {device}; give int8 or fp8."
        )


def pinned(job: Job) -> Job:
    """A job whose checkpoints of the hub are those of a commit each, so that all of it is of one, now and ever after.

    Raises:
        ValueError: a revision is named of what is no repository.
        CheckpointError: there is no such checkpoint.
    """
    names = [job.model, *job.components.values()]
    commits = {name: commit_of(name, **job.access(name)) for name in dict.fromkeys(names)}
    known = {name: commit for name, commit in commits.items() if commit is not None}
    return replace(job, revisions=known, then=tuple(map(pinned, job.then)))


def commit_of(name: str, revision: str | None = None, *, local_files_only: bool = False) -> str | None:
    """The commit that a checkpoint of the hub is of; None for one that is no repository.

    Raises:
        ValueError: a revision is named of what is no repository.
        CheckpointError: there is no such checkpoint.
    """
    from filmstrip.checkpoints import find_checkpoint, revision_of
    from filmstrip.checkpoints.locate import DESCRIPTIONS, local_folder

    if local_folder(name) is None:
        where = find_checkpoint(name, revision=revision, patterns=DESCRIPTIONS, local_files_only=local_files_only)
        return revision_of(where) or revision
    if revision is not None:
        raise ValueError(
            f"{name} lies on this machine, so there is no revision {shown(revision)} of it; leave that out, or name a"
            " repository of the hub, such as org/name."
        )
    return None


def choose_pipeline(job: Job) -> Pipeline:
    """The outline of the pipeline that takes what is given: the checkpoint's own, or another one of its family."""
    from filmstrip.assembly import Pipeline
    from filmstrip.checkpoints.component import outline_network
    from filmstrip.registry import MADE_INTO_VIDEOS, PIPELINES, find_family, resolve_class

    own = Pipeline.outline(job.model, **job.access(job.model))
    name = MADE_INTO_VIDEOS.get(type(own).__name__, type(own).__name__)
    if job.pipeline is not None:
        if job.pipeline not in PIPELINES:
            raise ValueError(f"there is no pipeline {job.pipeline!r} in this version of Filmstrip.")
        name = job.pipeline
    elif not all(given in PipelineCall(resolve_class("filmstrip", name)) for given in job.inputs):
        task = task_of(job.inputs)
        family = find_family(name, job.model)
        if family is None or task not in family.pipelines:
            raise ValueError(f"{job.model} does no {task}: {name} takes no {_said(job.inputs)}.")
        name = family.pipelines[task]
    if name == type(own).__name__ and not job.components:
        return own
    chosen_class = resolve_class("filmstrip", name)
    takes = chosen_class.component_names()
    if unknown := [given for given in job.components if given not in takes]:
        raise ValueError(f"--component {unknown[0]} has no effect: {name} has {', '.join(takes)}; drop it.")
    if missing := [one for one in takes if one not in own.components and one not in job.components]:
        raise ValueError(f"{name} needs a {missing[0]} beside {job.model}; give --component {missing[0]}=MODEL.")
    parts = {one: outline_network(model, **job.access(model)) for one, model in job.components.items()}
    chosen: Pipeline = chosen_class.from_pipe(own, **parts)
    if missing := [given for given in job.inputs if given not in PipelineCall(chosen_class)]:
        raise ValueError(f"{name} takes no {_said(missing)} as well; drop it.")
    if job.inputs:
        _check_task(chosen, task_of(job.inputs), job.model)
    return chosen


def _check_task(pipeline: Pipeline, task: str, model: str) -> None:
    """See that a model's components were made for a task, or name a checkpoint whose were."""
    from filmstrip.registry import find_family

    try:
        pipeline.check_components()
    except ValueError as error:
        family = find_family(type(pipeline).__name__, model)
        served = None if family is None else family.tasks.get(task)
        raise ValueError(f"{error} One for {task} is {served.checkpoint}." if served else str(error)) from error


def not_here(job: Job) -> list[str]:
    """What a job that is done again needs and this machine does not have: checkpoints of the hub, and addresses.

    Raises:
        CheckpointError: it needs a folder that is gone.
    """
    from filmstrip.checkpoints import CheckpointError, find_checkpoint
    from filmstrip.checkpoints.locate import local_folder
    from filmstrip.media.places import is_address

    missing = [name for one in job.then for name in not_here(one)]
    for name in filter(set(job.local).__contains__, [job.model, *job.components.values()]):
        try:
            is_folder = local_folder(name) is not None
        except CheckpointError as error:
            raise CheckpointError(f"the model {name} is gone; put it back, or name one with --model.") from error
        try:
            if not is_folder:
                find_checkpoint(name, revision=job.revisions.get(name), local_files_only=True)
        except CheckpointError:
            missing.append(name)
    recorded = [one.place for one in job.inputs.values() if one.made is not None]
    return [*missing, *filter(is_address, recorded)]


def find_scheduler(name: str) -> type[Scheduler]:
    """The scheduler class of that name, which may be its short one, in small letters or not."""
    from filmstrip.registry import PUBLIC, resolve_class

    short = short_names()
    known = {one: one for one in PUBLIC if one.endswith("Scheduler")} | short
    given = name if name in known else name.lower().replace("_", "-")
    if given not in known:
        similar = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(given, known, n=1)
        hint = f" Did you mean {similar[0]!r}?" if similar else ""
        raise ValueError(f"--scheduler must be one of {', '.join(short)}, or a class, got {shown(name)}.{hint}")
    found: type[Scheduler] = resolve_class("filmstrip", known[given])
    return found


def short_names() -> dict[str, str]:
    """What the command calls schedulers, to their classes: "euler" stands for EulerDiscreteScheduler."""
    from filmstrip.registry import PUBLIC, families

    prefixes = [family.name for family in families()]
    return {_short(name, prefixes): name for name in sorted(PUBLIC) if name.endswith("Scheduler")}


def _short(name: str, prefixes: Sequence[str]) -> str:
    """The name of a class without what all have in common, its words in small letters."""
    words = (
        name.removesuffix("Scheduler").replace("Discrete", "").replace("Multistep", "").replace("DPMSolver", "Dpm++")
    )
    for prefix in prefixes:
        if words.lower().startswith(prefix):
            return f"{prefix}-{words[len(prefix) :].lower()}"
    return re.sub(r"(?<=.)(?=[A-Z][a-z])", "-", words).lower()


def load_pipeline(
    outline: Pipeline,
    job: Job,
    dtypes: Mapping[str, torch.dtype | None],
    device: torch.device | None,
    scheduler: Scheduler | None = None,
) -> Pipeline:
    """The pipeline of an outline, with its weights.

    Args:
        job: names the model, and the checkpoints of other components.
        dtypes: those of components by name, and under "default" that of the others.
        device: None leaves the weights on the CPU.
        scheduler: in place of the checkpoint's.
    """
    # In few bits weights may fit on a device on which they did not as they were stored; int4 is packed for its device.
    first = device if job.quantize in (None, "int4") else "cpu"
    parts: dict[str, Any] = {}
    for name, model in job.components.items():
        kind = type(outline.components[name])
        parts[name] = kind.from_pretrained(
            model, dtype=dtypes.get(name, dtypes["default"]), device=first, **job.access(model)
        )
    if scheduler is not None:
        parts["scheduler"] = scheduler
    pipeline = type(outline).from_pretrained(
        job.model, dtype=dict(dtypes), device=first, **job.access(job.model), **parts
    )
    if job.quantize is not None:
        pipeline.quantize(job.quantize)
        pipeline.to(device)
    return pipeline


def _said(inputs: Iterable[str]) -> str:
    return " or ".join(f"--{name.replace('_', '-')}" for name in inputs)
