"""`filmstrip inspect`: what a checkpoint is made of and what it can make, without its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filmstrip.cli.printing import bytes_of, number_of, print_facts, print_json, print_table
from filmstrip.cli.progress import Notes, trying
from filmstrip.families import Family
from filmstrip.jobs.notes import library_notes
from filmstrip.registry import (
    BUILTIN_MODELS,
    MADE_INTO_VIDEOS,
    TRANSFORMERS_PROCESSORS,
    canonical_library,
    find_family,
    resolve_class,
)

if TYPE_CHECKING:
    from filmstrip.checkpoints import CheckpointSummary, ComponentSummary


@dataclass(frozen=True)
class PlanWords:
    """What `inspect` is told of the video to plan for."""

    memory: str | None = None
    device: str | None = None
    size: str | None = None
    num_frames: int | None = None
    dtype: str | None = None
    quantize: str | None = None


def show_model(name: str, revision: str | None, words: PlanWords, *, is_json: bool, is_quiet: bool) -> None:
    """Print what a model is, and how its usual video, or the one that is asked about, fits into a memory."""
    given = [f"--{one.replace('_', '-')}" for one, value in vars(words).items() if value is not None]
    if given and words.memory is None:
        has = "has" if len(given) == 1 else "have"
        raise ValueError(f"{' and '.join(given)} {has} no effect without --memory; give that, too, such as 8GB.")
    with library_notes(Notes(is_quiet=is_quiet)):
        content = described(name, revision)
        if words.memory is not None:
            with trying(is_quiet=is_quiet or is_json) as tell:
                content["plan"] = _plan(content, words, words.memory, tell)
    print_json(content) if is_json else _print(content)


def described(name: str, revision: str | None = None) -> dict[str, Any]:
    """What a model is, for JSON.

    Raises:
        CheckpointError: there is none of that name, or it is damaged.
    """
    from filmstrip.checkpoints import inspect_checkpoint
    from filmstrip.jobs.components import commit_of

    commit = commit_of(name, revision)
    summary = inspect_checkpoint(name, revision=commit)
    components = [_component(summary, one) for one in summary.components]
    pipeline = summary.pipeline_class or ""
    family = find_family(MADE_INTO_VIDEOS.get(pipeline, pipeline), name)
    licence = summary.licence or (family.licence if family and name in BUILTIN_MODELS else None)
    return {
        "name": summary.name,
        "revision": commit,
        "family": summary.family,
        "pipeline": summary.pipeline_class,
        "tasks": {},
        "licence": licence,
        "parameters": sum(one["parameters"] or 0 for one in components),
        "bytes": summary.nbytes,
        "components": components,
        "rules": None,
        "defaults": {},
        "understands": dict(family.understands) if family and name in family.checkpoints else {},
        **(_abilities(name, commit, family) if family else {}),
    }


def _plan(content: dict[str, Any], words: PlanWords, memory: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """How a video of a model fits into a memory.

    Raises:
        ValueError: it does not, or the model is not one that makes videos by itself.
    """
    from filmstrip.checkpoints import requested_dtype
    from filmstrip.fitting.usual import usual_request
    from filmstrip.jobs.calls import LENGTH, PipelineCall, parse_sides
    from filmstrip.jobs.plans import device_to_plan_for, plan_by_headers, plan_content
    from filmstrip.memory.quantization import check_kind

    name, tasks, access = content["name"], content["tasks"], {"revision": content["revision"]}
    if not tasks:
        raise ValueError(f"{name} makes no videos by itself, so there is no memory to plan; leave --memory out.")
    device, dtype = device_to_plan_for(words.device), requested_dtype(dtype=words.dtype)
    if words.quantize is not None:
        check_kind(words.quantize, device, dtype)
    outline: Any = resolve_class("filmstrip", next(iter(tasks.values()))).outline(name, **access)
    call = PipelineCall(type(outline))
    arguments: dict[str, Any] = {} if words.size is None else dict(parse_sides(words.size))
    if words.num_frames is not None:
        arguments[call.length or LENGTH] = words.num_frames
    for argument in arguments:
        if argument not in call:
            option = "--num-frames" if argument == LENGTH else "--size"
            raise ValueError(f"{option} has no effect on {call.name}, whose inputs decide it; leave it out.")
    request = usual_request(outline, arguments)
    plan, notes = plan_by_headers(name, outline, request, device, memory, dtype, words.quantize, tell, access)
    return {**plan_content(plan), "lines": list(plan.lines()), "notes": notes}


def _component(summary: CheckpointSummary, one: ComponentSummary) -> dict[str, Any]:
    parameters: int | None = one.parameters
    is_ours = canonical_library(one.library) == "filmstrip"
    if is_ours or (not one.files and one.class_name not in TRANSFORMERS_PROCESSORS):
        parameters = _parameters_by_config(summary, one)
    return {
        "name": one.name,
        "class": one.class_name,
        "library": one.library,
        "weights": "here" if one.files else "none" if parameters == 0 else "missing",
        "parameters": parameters,
        "bytes_per_dtype": one.bytes_per_dtype,
        "variants": list(one.variants),
    }


def _parameters_by_config(summary: CheckpointSummary, one: ComponentSummary) -> int | None:
    """How many the network of a config.json has; 0 for what is no network, None for one that we do not know.

    A file may hold more numbers than that, such as the statistics of latents.
    """
    from torch import nn

    from filmstrip.checkpoints.component import outline_component
    from filmstrip.registry import check_class

    try:
        check_class(one.library, one.class_name)
    except ValueError:
        return one.parameters or None
    network = outline_component(one.library, one.class_name, summary.folder / one.name)
    return sum(p.numel() for p in network.parameters()) if isinstance(network, nn.Module) else 0


def _abilities(name: str, revision: str | None, family: Family) -> dict[str, Any]:
    """What the components together can make."""
    from filmstrip.assembly import Pipeline

    outline: Any = Pipeline.outline(name, revision=revision)
    own = type(outline).__name__
    videos = resolve_class("filmstrip", MADE_INTO_VIDEOS.get(own, own))
    if _serves(outline, videos):
        outline = videos.from_pipe(outline)
    rules = outline.rules
    classes = {task: resolve_class("filmstrip", public) for task, public in family.pipelines.items()}
    served = {task: one for task, one in classes.items() if _serves(outline, one)}
    return {
        "tasks": {task: one.__name__ for task, one in served.items()},
        "rules": {
            "size_multiple": rules.size_multiple,
            "size_reason": rules.size_reason,
            "frame_counts": rules.frame_counts,
            "frame_stride": rules.frame_stride,
            "frame_offsets": rules.frame_offsets,
        },
        "defaults": outline.defaults,
    }


def _serves(outline: Any, pipeline: Any) -> bool:
    """Whether a pipeline class can do its task with these components."""
    if not set(pipeline.component_names()) <= set(outline.components):
        return False
    try:
        pipeline.from_pipe(outline).check_components()
    except ValueError:
        return False
    return True


def _print(content: dict[str, Any]) -> None:
    total = f"{number_of(content['parameters'])}, {bytes_of(content['bytes'])}"
    if any(one["weights"] == "missing" for one in content["components"]):
        total = f"{number_of(content['parameters'])}; weights are not there, only their description"
    facts = [
        ("model", content["name"]),
        *([("revision", content["revision"])] if content["revision"] else []),
        ("family", content["family"] or "unknown"),
        ("pipeline", content["pipeline"] or "none: a single component"),
        ("licence", content["licence"] or "not stated"),
        ("parameters", total),
    ]
    if rules := content["rules"]:
        facts += [
            ("size", f"multiples of {rules['size_multiple']} pixels ({rules['size_reason']})"),
            ("frames", _lengths(rules)),
            ("defaults", ", ".join(f"{key} {value}" for key, value in content["defaults"].items())),
        ]
    facts += [
        ("tasks" if index == 0 else "", f"{task} ({by})") for index, (task, by) in enumerate(content["tasks"].items())
    ]
    facts += [
        ("prompts" if index == 0 else "", f"{kind}: {', '.join(words)}")
        for index, (kind, words) in enumerate(content["understands"].items())
    ]
    print_facts(facts)
    if plan := content.get("plan"):
        print()
        print_facts([*plan["lines"], *(("assumed", sentence) for sentence in plan["notes"])])
    print()
    print_table([("component", "class", "parameters", "weights"), *map(_row, content["components"])])


def _lengths(rules: dict[str, Any]) -> str:
    return "any number" if rules["frame_stride"] == 1 else f"any number; made as {rules['frame_counts']}, then cut"


def _row(one: dict[str, Any]) -> tuple[str, str, str, str]:
    sizes = ", ".join(f"{bytes_of(size)} {dtype}" for dtype, size in one["bytes_per_dtype"].items())
    variants = f" (also {', '.join(one['variants'])})" if one["variants"] else ""
    weights = {"here": sizes + variants, "missing": "not there", "none": ""}[one["weights"]]
    parameters = "unknown" if one["parameters"] is None else number_of(one["parameters"]) if one["parameters"] else ""
    library = "" if canonical_library(one["library"]) == "filmstrip" else f" ({one['library']})"
    return one["name"] or "-", one["class"] + library, parameters, weights
