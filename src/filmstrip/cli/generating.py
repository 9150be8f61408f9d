"""`filmstrip generate` and `filmstrip rerun`: plan, make, and say what was made."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filmstrip.cli.inputs import Input, read_input
from filmstrip.cli.making import Made, make_videos
from filmstrip.cli.memory import plan_by_headers, plan_content
from filmstrip.cli.plans import Job, Plan, make_plan, parse_size
from filmstrip.cli.printing import print_facts, print_json
from filmstrip.cli.progress import library_notes, make_progress, note
from filmstrip.cli.records import job_of
from filmstrip.cli.targets import check_targets, choose_targets, unused
from filmstrip.registry import BUILTIN_MODELS

DEFAULT_MODEL = next(iter(BUILTIN_MODELS))
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Output:
    """Where the videos go and what is said about them."""

    path: Path | None
    is_dry: bool = False
    is_json: bool = False
    is_quiet: bool = False
    has_sheet: bool = False
    every: int | None = None
    """After how many steps what is done is kept."""


def generate(options: Mapping[str, Any], output: Output) -> None:
    """Make videos by the options of the command line, as `app.generate` names them."""
    model = options["model"]
    if model is None:
        model = DEFAULT_MODEL
        hint = "name another with --model: a folder, or a hub repository such as org/name"
        note(f"using the built-in model {model!r}; {hint}.", is_quiet=output.is_quiet)
    if output.every is not None and output.every < 1:
        raise ValueError(f"--checkpoint-every must be at least 1, got {output.every}.")
    if options["num_videos"] < 1:
        raise ValueError(f"--num-videos must be at least 1, got {options['num_videos']}.")
    seed = options["seed"]
    if seed is None:
        seed = secrets.randbelow(2**32)
    if not 0 <= seed <= _LARGEST_SEED - options["num_videos"]:
        raise ValueError(f"--seed must be a whole number from 0 to {_LARGEST_SEED}, got {seed}.")
    job = Job(
        model=model,
        seed=seed,
        num_videos=options["num_videos"],
        arguments=_arguments(options),
        assignments=tuple(options["set"] or ()),
        inputs=_inputs(options),
        components=_components(options["component"] or ()),
        **{name: options[name] for name in ("seconds", "fps", "scheduler", "device", "dtype", "memory", "quantize")},
    )
    with library_notes(is_quiet=output.is_quiet):
        plan = make_plan(job)
        targets = choose_targets(output.path, plan.prompt, seed, job.num_videos)
        _carry_out(plan, targets, output)


def rerun(made: Path, assignments: Sequence[str], device: str | None, output: Output) -> None:
    """Make a video again from what is written down in it."""
    from filmstrip.generation.keeping import changed_versions
    from filmstrip.media import read_metadata

    record = read_metadata(made)
    job = job_of(record, made)
    job = replace(job, assignments=tuple(assignments), device=device or job.device)
    for sentence in changed_versions(record.get("versions") or {}):
        note(sentence, is_quiet=output.is_quiet)
    with library_notes(is_quiet=output.is_quiet):
        plan = make_plan(job)
        target = output.path or unused(made.with_name(f"{made.stem}-rerun{made.suffix}"))
        _carry_out(plan, [target], output)


def _arguments(options: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    given: dict[str, tuple[str, Any]] = {}
    for argument, option, said in (
        ("prompt", "prompt", "PROMPT"),
        ("negative_prompt", "negative_prompt", "--negative-prompt"),
        ("num_frames", "num_frames", "--num-frames"),
        ("num_inference_steps", "steps", "--steps"),
        ("guidance_scale", "guidance_scale", "--guidance-scale"),
    ):
        if options[option] is not None:
            given[argument] = (said, options[option])
    if options["size"] is not None:
        width, height = parse_size(options["size"])
        given |= {"width": ("--size", width), "height": ("--size", height)}
    return given


def _inputs(options: Mapping[str, Any]) -> dict[str, Input]:
    if options["edges"] and options["control_video"] is None:
        raise ValueError("--edges are those of a --control-video, and none was given.")
    names = [name for name in ("image", "video", "control_video") if options[name] is not None]
    is_edges = {"control_video": options["edges"]}
    return {name: read_input(name, options[name], is_edges=is_edges.get(name, False)) for name in names}


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


def _carry_out(plan: Plan, targets: list[Path], output: Output) -> None:
    sources = [one.source for one in plan.job.inputs.values()]
    check_targets(targets, plan.fps, sources, has_sheet=output.has_sheet, is_dry=output.is_dry)
    if output.is_dry:
        print_json(_plan_content(plan, targets)) if output.is_json else print_facts(_plan_facts(plan, targets))
        return
    for sentence in plan.notes:
        note(sentence, is_quiet=output.is_quiet)
    made = []
    with make_progress(is_quiet=output.is_quiet) as progress:
        for video in make_videos(plan, targets, progress, has_sheet=output.has_sheet, every=output.every):
            made.append(video)
    tell_made(made, plan.notes, output)


def tell_made(made: list[Made], notes: Sequence[str], output: Output) -> None:
    """Print what was made, with what was done otherwise than asked for."""
    if output.is_json:
        print_json(_content(made, notes))
    elif output.is_quiet:
        for video in made:
            print(video.path)
    else:
        print_facts(_facts(made, notes))


def _memory_plan(plan: Plan) -> Any:
    """How the job fits into the memory that was given, and what is assumed for that."""
    assert plan.job.memory is not None, "only asked where a memory is given"
    return plan_by_headers(
        plan.job.model, plan.outline, plan.request, plan.device, plan.job.memory, plan.dtype, plan.job.quantize
    )


def _plan_content(plan: Plan, targets: list[Path]) -> dict[str, Any]:
    size = plan.request.size
    return {
        "model": plan.job.model,
        "pipeline": plan.call.name,
        "files": [str(target) for target in targets],
        "seed": plan.job.seed,
        "fps": plan.fps,
        "device": str(plan.device),
        "settings": plan.settings,
        "resolved": {**asdict(size), "seconds": size.num_frames / plan.fps, "num_tokens": size.num_tokens},
        "adjustments": list(plan.notes),
        **({} if plan.job.memory is None else {"memory": plan_content(_memory_plan(plan)[0])}),
    }


def _plan_facts(plan: Plan, targets: list[Path]) -> list[tuple[str, str]]:
    size = plan.request.size
    settings = plan.settings
    shown = {name: settings[name] for name in ("num_inference_steps", "guidance_scale") if name in settings}
    return [
        ("model", f"{plan.job.model} ({plan.call.name})"),
        *_continued("file", [str(target) for target in targets]),
        ("frames", f"{size.num_frames} ({size.generated_frames} generated), {_seconds(size.num_frames / plan.fps)}"),
        ("size", f"{size.width}x{size.height} at {plan.fps:g} fps"),
        ("latents", f"{'x'.join(map(str, size.latent_size))} (frames, height, width): {size.num_tokens} tokens"),
        *((name.replace("num_inference_", "").replace("_", " "), str(value)) for name, value in shown.items()),
        ("seed", str(plan.job.seed)),
        ("device", str(plan.device)),
        *_continued("adjusted", plan.notes),
        *(_memory_plan(plan)[0].lines() if plan.job.memory is not None else ()),
    ]


def _content(made: list[Made], notes: Sequence[str]) -> dict[str, Any]:
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
                "seconds": video.stages,
                "cut_off": list(video.cut_off),
            }
            for video in made
        ],
        **{name: value for name, value in made[0].record.items() if name != "seed"},
        "adjustments": list(notes),
    }


def _facts(made: list[Made], notes: Sequence[str]) -> list[tuple[str, str]]:
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


def _continued(name: str, values: Sequence[str]) -> list[tuple[str, str]]:
    return [(name if index == 0 else "", value) for index, value in enumerate(values)]


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:.0f} s"
