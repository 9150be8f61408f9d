"""From a job to a checked request: all that can go wrong before weights are loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from filmstrip.checks import check_whole_number
from filmstrip.jobs import calls
from filmstrip.jobs.calls import PipelineCall, is_clip
from filmstrip.jobs.components import check_placement, check_quantization, choose_pipeline, find_scheduler, pinned
from filmstrip.jobs.framing import framed_pictures, framing_notes, size_by_inputs
from filmstrip.jobs.inputs import Input, read_input
from filmstrip.jobs.job import Job, Source
from filmstrip.json_files import shown
from filmstrip.registry import find_family, preset_of

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from filmstrip.assembly import Pipeline
    from filmstrip.generation.request import Request

LARGEST_SEED = 2**63 - 1
_OTHER_FPS = 8.0
_NOISE = 0.75  # the level from which a clip is made anew where nothing is said about it: its shapes stay


@dataclass(frozen=True)
class ResolvedJob:
    """A job that can be done, and how."""

    job: Job
    inputs: Mapping[str, Input]
    """The pictures and clips of the job; clips no longer than they are wanted."""
    outline: Pipeline
    call: PipelineCall
    arguments: Mapping[str, object]
    request: Request[Any]
    device: torch.device
    dtype: torch.dtype | None
    fps: float
    """Of the file."""
    notes: tuple[str, ...]
    """What differs from what was asked for, and why."""

    @property
    def prompt(self) -> str:
        return str(self.arguments.get("prompt") or "")

    @property
    def scheduler(self) -> str | None:
        """The class of the scheduler, if there is one."""
        scheduler = self.outline.components.get("scheduler")
        return None if scheduler is None else type(scheduler).__name__

    @property
    def settings(self) -> dict[str, object]:
        """Every argument of the call that can be written down, with its defaults filled in."""
        return self.call.recorded(vars(self.request.arguments))


def resolve_job(job: Job, made: Input | None = None) -> ResolvedJob:
    """Check a job against its checkpoints' JSON files, and say what would be made; loads no weights.

    Args:
        made: the video of the pass before, which this one changes.

    Raises:
        ValueError: it can't be done; one sentence says why.
    """
    from filmstrip.fitting.plan import memory_of

    check_whole_number("--num-videos", job.num_videos)
    if not 0 <= job.seed <= LARGEST_SEED - job.num_videos:
        raise ValueError(f"--seed must be a whole number from 0 to {LARGEST_SEED}, got {job.seed}.")
    inputs = {name: read_input(name, source) for name, source in job.inputs.items()}
    if made is not None:
        job, inputs = replace(job, inputs={**job.inputs, "video": Source(made.source)}), {**inputs, "video": made}
    device, dtype = check_placement(job.device, job.dtype)
    if job.memory is not None:
        memory_of(job.memory, device)  # says what is wrong with it
    if job.quantize is not None:
        check_quantization(job, device, dtype)
    job = pinned(job)
    outline = choose_pipeline(job)
    if job.scheduler is not None:
        outline.scheduler = find_scheduler(job.scheduler).from_config(outline.scheduler.config)
    call = PipelineCall(type(outline))
    job = replace(job, arguments=_taken(job, call), where_taken={})
    if made is not None and not {*calls.SIDES} & {*job.arguments, *preset_of(call.name, job.model)}:
        own = dict(zip(calls.SIDES, reversed(made.size), strict=True))  # as large as it is, unless something is said
        job = replace(job, arguments={**{side: own[side] for side in own if side in call}, **job.arguments})
    job, inputs = _with_cut_clips(job, inputs, call)
    arguments = _arguments(job, call, outline.defaults)
    generator = generator_of(job.seed)
    request, arguments, pictures, notes = _sized(outline, arguments, inputs, generator)
    clips = {name: given for name, given in pictures.items() if isinstance(given, list)}
    if call.only_repeats(arguments, clips, request.size.num_frames):
        change = cast("Any", outline).strength_at(request, _NOISE)
        arguments[calls.CHANGE] = change
        request = outline.request(**arguments, **pictures, generator=generator)
        notes += (f"The clip is changed ({calls.CHANGE} {change:g}); to extend it, ask for more frames than it has.",)
    if request.num_videos != 1:
        raise ValueError(f"{request.num_videos} prompts were given; give one, and --num-videos for more videos of it.")
    notes += _note_of_words(job.model, call.name, str(arguments.get("prompt") or ""))
    resolved = ResolvedJob(
        job=job,
        inputs=inputs,
        outline=outline,
        call=call,
        arguments=arguments,
        request=request,
        device=device,
        dtype=dtype,
        fps=_file_fps(job, inputs, call, request),
        notes=(
            *_preset_notes(job, call, request),
            *notes,
            *request.size.adjustments,
            *framing_notes(inputs, request.size.width, request.size.height),
        ),
    )
    resolve_next(resolved)
    return resolved


def resolve_next(resolved: ResolvedJob) -> ResolvedJob | None:
    """The pass that follows on a job, as it would change a video of that size and length; None if none does."""
    from PIL import Image

    if not resolved.job.then:
        return None
    size = resolved.request.size
    frames = [Image.new("RGB", (size.width, size.height))] * size.num_frames
    following, *others = resolved.job.then
    try:
        job = replace(following, then=tuple(others), seed=resolved.job.seed)
        return resolve_job(job, Input("", "", frames, resolved.fps))
    except ValueError as error:
        raise ValueError(f"{following.model} can't make the next pass: {error}") from error


def _taken(job: Job, call: PipelineCall) -> dict[str, object]:
    """A job's arguments for its call, that of the change under the call's name for it."""
    offered = {name: value for name, value in job.where_taken.items() if name in call}
    given = {name: value for name, value in job.arguments.items() if name != calls.CHANGES}
    if calls.CHANGES in job.arguments:
        name = next((one for one in calls.CHANGES.split("|") if one in call), None)
        if name is None:
            raise ValueError(f"{call.name} takes no strength; leave out {_said(job, calls.CHANGES)} of that pass.")
        given[name] = job.arguments[calls.CHANGES]
    return offered | given


def _note_of_words(model: str, pipeline: str, prompt: str) -> tuple[str, ...]:
    """What to know of a prompt that the model has no word of."""
    family = find_family(pipeline, model)
    if family is None or model not in family.checkpoints or not prompt.strip() or family.is_understood(prompt):
        return ()
    kinds = "; ".join(f"{kind}: {', '.join(words)}" for kind, words in family.understands.items())
    return (f"The prompt has none of the words that {model} understands, so the video will hardly show it ({kinds}).",)


def _preset_notes(job: Job, call: PipelineCall, request: Request[Any]) -> list[str]:
    """What is used because the checkpoint was made for it."""
    preset, chosen = preset_of(call.name, job.model), vars(request.arguments)
    used = [name for name, value in preset.items() if name not in job.arguments and chosen.get(name) == value]
    said = ", ".join(f"{name} {chosen[name]}" for name in used)
    return [f"{job.model} was made for {said}; these are used where nothing else is said."] if used else []


def generator_of(seed: int) -> torch.Generator:
    """The source of a video's randomness, on the CPU, so that every device makes the same video of a seed."""
    import torch

    return torch.Generator().manual_seed(seed)


def _sized(
    outline: Pipeline, arguments: dict[str, object], inputs: Mapping[str, Input], generator: torch.Generator
) -> tuple[Request[Any], dict[str, object], dict[str, Image | list[Image]], tuple[str, ...]]:
    """The request, its arguments, its pictures and clips, and a note of its size.

    That is of the pictures' proportions, if none is asked for and the model takes it.
    """
    rules = getattr(outline, "rules", None)
    found = size_by_inputs(inputs, arguments, outline.defaults, getattr(rules, "size_multiple", None))
    if found is not None:
        sides, sentence = found
        try:
            return *_asked(outline, {**arguments, **sides}, inputs, generator), (sentence,)
        except ValueError:  # made for one size, or else it is said again
            pass
    return *_asked(outline, arguments, inputs, generator), ()


def _asked(
    outline: Pipeline, arguments: dict[str, object], inputs: Mapping[str, Input], generator: torch.Generator
) -> tuple[Request[Any], dict[str, object], dict[str, Image | list[Image]]]:
    pictures = framed_pictures(inputs, {**outline.defaults, **arguments})
    return outline.request(**arguments, **pictures, generator=generator), arguments, pictures


def _with_cut_clips(job: Job, inputs: dict[str, Input], call: PipelineCall) -> tuple[Job, dict[str, Input]]:
    """The job with clips as long as the video is to be, where nothing but a clip says how long that is."""
    clips = {name: one for name, one in inputs.items() if is_clip(name)}
    asked = job.arguments.get(calls.LENGTH)
    if call.length is not None or not clips or (asked is None and job.seconds is None):
        return job, inputs
    if asked is not None and job.seconds is not None:
        raise ValueError("--num-frames and --seconds say the same thing; give one of them.")
    cut = dict(inputs)
    for name, clip in clips.items():
        if job.seconds is not None:
            asked = max(1, round(job.seconds * (job.fps or clip.fps or _OTHER_FPS)))
        if not isinstance(asked, int):
            raise ValueError(f"{_said(job, calls.LENGTH)} takes a whole number, got {shown(asked)}.")
        cut[name] = clip.first(asked)
    arguments = {name: value for name, value in job.arguments.items() if name != calls.LENGTH}
    return replace(job, arguments=arguments, seconds=None), cut


def _said(job: Job, name: str) -> str:
    return job.said.get(name, name)


def _arguments(job: Job, call: PipelineCall, defaults: Mapping[str, object]) -> dict[str, object]:
    length = call.length or calls.LENGTH
    # Argument of the call to how it was given and its value.
    given = {length if name == calls.LENGTH else name: (name, value) for name, value in job.arguments.items()}
    said = {name: job.said[by] for name, (by, _) in given.items() if by in job.said}
    values = {name: call.checked(name, value, said.get(name, name)) for name, (_, value) in given.items()}
    if job.fps is not None and call.rate is not None and call.rate not in values:
        said[call.rate] = "--fps"
        values[call.rate] = call.checked(call.rate, job.fps, "--fps")
    for assignment in job.assignments:
        name, value = call.parse(assignment)
        if name in said:
            raise ValueError(f"{said[name]} and --set {name} say the same thing; give one of them.")
        values[name] = value
    if job.seconds is not None:
        values[length] = _num_frames(job.seconds, job.fps, call, length, values, defaults)
    if "prompt" in call and values.get("prompt") is None:
        raise ValueError('a prompt is needed: say what the video shows, such as "a boat turning in the wind".')
    if isinstance(prompt := values.get("prompt"), str) and not prompt.strip():
        raise ValueError('The prompt is empty; describe the video, for example "a red star spinning".')
    return values


def _num_frames(
    seconds: float,
    fps: float | None,
    call: PipelineCall,
    length: str,
    values: Mapping[str, object],
    defaults: Mapping[str, object],
) -> object:
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"--seconds must be more than 0, got {seconds}.")
    if length in values:
        raise ValueError("--num-frames and --seconds say the same thing; give one of them.")
    name = call.rate or calls.RATE
    rate = values.get(name) or defaults.get(name) or fps or _OTHER_FPS
    assert isinstance(rate, (int, float)), "the call has checked it"
    return call.checked(length, max(1, round(seconds * rate)), "--seconds")


def _file_fps(job: Job, inputs: Mapping[str, Input], call: PipelineCall, request: Request[Any]) -> float:
    if call.rate is not None:
        return float(request.size.frame_rate)
    if job.fps is not None:
        return job.fps
    return next((one.fps for one in inputs.values() if one.fps), float(request.size.frame_rate))
