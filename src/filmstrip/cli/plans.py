"""From a command line, or a video's record, to a checked request: all that can go wrong before weights are loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from filmstrip.cli.calls import Call
from filmstrip.cli.inputs import Input

if TYPE_CHECKING:
    import torch

    from filmstrip.generation import Pipeline
    from filmstrip.generation.request import Request

_OTHER_FPS = 8.0
_CHANGE = 0.7  # how much of a clip is made anew where nothing is said about it
_ASPECT_TOLERANCE = 0.02
# What the pictures or clips that are given make of a task.
_TASKS = {"control_video": "control-to-video", "video": "video-to-video", "image": "image-to-video"}


@dataclass(frozen=True)
class Job:
    """What is to be made, as it was said; nothing of it is checked yet."""

    model: str
    seed: int
    num_videos: int = 1
    arguments: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    """Argument of the call to how it was given ("--steps", or "" by a record) and its value."""
    assignments: tuple[str, ...] = ()
    """NAME=VALUE, which go over all others."""
    inputs: Mapping[str, Input] = field(default_factory=dict)
    components: Mapping[str, str] = field(default_factory=dict)
    """Component of the pipeline to the checkpoint that it comes from, where that is not the model's."""
    seconds: float | None = None
    fps: float | None = None
    pipeline: str | None = None
    """Name of the pipeline class; None chooses it by what is given."""
    scheduler: str | None = None
    device: str | None = None
    dtype: str | None = None
    memory: str | None = None
    """What may be used, such as "8GB"; None sets no limit."""
    quantize: str | None = None
    """How the weights of the networks that denoise are stored; None keeps their type."""


@dataclass(frozen=True)
class Plan:
    """A job that can be done, and how."""

    job: Job
    outline: Pipeline
    call: Call
    arguments: dict[str, Any]
    request: Request
    device: torch.device
    dtype: torch.dtype | None
    fps: float
    notes: tuple[str, ...]
    """What differs from what was asked for, and why."""

    @property
    def prompt(self) -> str:
        return str(self.arguments.get("prompt") or "")

    @property
    def settings(self) -> dict[str, Any]:
        """Every argument of the call that can be written down, with its defaults filled in."""
        from filmstrip.generation.request import complete_arguments

        values = complete_arguments(type(self.outline), self.arguments, self.outline.defaults)
        return self.call.recorded(values)


def make_plan(job: Job) -> Plan:
    """Check a job against its checkpoint's JSON files.

    Raises:
        ValueError: it can't be done; one sentence says why.
    """
    device, dtype = check_placement(job.device, job.dtype)
    if job.quantize is not None:
        check_quantization(job, device, dtype)
    outline = choose_pipeline(job)
    if job.scheduler is not None:
        outline.scheduler = find_scheduler(job.scheduler).from_config(outline.scheduler.config)
    call = Call(type(outline))
    job = _with_cut_clips(job, call)
    arguments = _arguments(job, call, outline.defaults)
    pictures = _pictures(job.inputs, {**outline.defaults, **arguments})
    request = outline.request(**arguments, **pictures, generator=generator_of(job.seed))
    notes: tuple[str, ...] = ()
    if _only_repeats(call, arguments, pictures, request):
        arguments["denoise_strength"] = _CHANGE
        request = outline.request(**arguments, **pictures, generator=generator_of(job.seed))
        notes = (f"The clip is changed (denoise_strength {_CHANGE}); to extend it, ask for more frames than it has.",)
    if request.num_videos != 1:
        raise ValueError(f"{request.num_videos} prompts were given; give one, and --num-videos for more videos of it.")
    return Plan(
        job=job,
        outline=outline,
        call=call,
        arguments=arguments,
        request=request,
        device=device,
        dtype=dtype,
        fps=_file_fps(job, call, request),
        notes=(*notes, *request.size.adjustments, *_distortions(job.inputs, request)),
    )


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


def choose_pipeline(job: Job) -> Pipeline:
    """The outline of the pipeline that takes what is given: the checkpoint's own, or another one of its family."""
    from filmstrip.checkpoints.component import outline_network
    from filmstrip.generation import Pipeline
    from filmstrip.registry import MADE_INTO_VIDEOS, PIPELINES, find_family, resolve_class

    own = Pipeline.outline(job.model)
    name = MADE_INTO_VIDEOS.get(type(own).__name__, type(own).__name__)
    if job.pipeline is not None:
        if job.pipeline not in PIPELINES:
            raise ValueError(f"there is no pipeline {job.pipeline!r} in this version of Filmstrip.")
        name = job.pipeline
    elif not all(given in Call(resolve_class("filmstrip", name)) for given in job.inputs):
        task = next(_TASKS[given] for given in _TASKS if given in job.inputs)
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
    chosen: Pipeline = chosen_class.from_pipe(own, **{one: outline_network(m) for one, m in job.components.items()})
    if missing := [given for given in job.inputs if given not in Call(type(chosen))]:
        raise ValueError(f"{name} takes no {_said(missing)} as well; drop it.")
    return chosen


def find_scheduler(name: str) -> Any:
    """The scheduler class of that name."""
    from filmstrip.generation.request import check_choice
    from filmstrip.registry import PUBLIC, resolve_class

    known = [public for public in PUBLIC if public.endswith("Scheduler")]
    return resolve_class("filmstrip", check_choice("--scheduler", name, known))


def generator_of(seed: int) -> torch.Generator:
    """The source of a video's randomness, on the CPU, so that every device makes the same video of a seed."""
    import torch

    return torch.Generator().manual_seed(seed)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of "704x512"."""
    found = re.fullmatch(r"\s*(\d+)\s*[xX*]\s*(\d+)\s*", text)
    if not found:
        raise ValueError(f"--size takes WIDTHxHEIGHT in pixels, such as 704x512, got {text!r}.")
    return int(found[1]), int(found[2])


def _said(inputs: Iterable[str]) -> str:
    return " or ".join(f"--{name.replace('_', '-')}" for name in inputs)


def _with_cut_clips(job: Job, call: Call) -> Job:
    """The job with clips as long as the video is to be, where nothing but a clip says how long that is."""
    clips = {name: one for name, one in job.inputs.items() if name != "image"}
    asked = job.arguments.get("num_frames")
    if call.length is not None or not clips or (asked is None and job.seconds is None):
        return job
    if asked is not None and job.seconds is not None:
        raise ValueError("--num-frames and --seconds say the same thing; give one of them.")
    cut = {}
    for name, clip in clips.items():
        fps = job.fps or clip.fps or _OTHER_FPS
        cut[name] = clip.first(max(1, round(job.seconds * fps)) if asked is None else asked[1])  # type: ignore[operator]
    arguments = {name: value for name, value in job.arguments.items() if name != "num_frames"}
    return replace(job, arguments=arguments, inputs={**job.inputs, **cut}, seconds=None)


def _arguments(job: Job, call: Call, defaults: Mapping[str, Any]) -> dict[str, Any]:
    length = call.length or "num_frames"
    given = {length if name == "num_frames" else name: said for name, said in job.arguments.items()}
    if job.fps is not None and "frame_rate" in call:
        given.setdefault("frame_rate", ("--fps", job.fps))
    values = {name: call.checked(name, value, said) for name, (said, value) in given.items()}
    for assignment in job.assignments:
        name, value = call.parse(assignment)
        if said := given.get(name, ("", None))[0]:
            raise ValueError(f"{said} and --set {name} say the same thing; give one of them.")
        values[name] = value
    if job.seconds is not None:
        values[length] = _num_frames(job, call, length, values, defaults)
    if "prompt" in call and values.get("prompt") is None:
        raise ValueError('a prompt is needed: say what the video shows, such as "a boat turning in the wind".')
    return values


def _num_frames(job: Job, call: Call, length: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> int:
    seconds = job.seconds
    if seconds is None or not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"--seconds must be more than 0, got {seconds}.")
    if length in values:
        raise ValueError("--num-frames and --seconds say the same thing; give one of them.")
    fps = values.get("frame_rate") or defaults.get("frame_rate") or job.fps or _OTHER_FPS
    return int(call.checked(length, max(1, round(seconds * fps)), "--seconds"))


def _only_repeats(call: Call, arguments: Mapping[str, Any], pictures: Mapping[str, Any], request: Request) -> bool:
    """Whether the video would be the given clip over again, since the clip holds every frame of it fast."""
    clip = pictures.get("video")
    if clip is None or "denoise_strength" not in call or {"denoise_strength", "strength", "frame_index"} & {*arguments}:
        return False
    return len(clip) >= request.size.num_frames


def _pictures(inputs: Mapping[str, Input], values: Mapping[str, Any]) -> dict[str, Any]:
    """What the call is given; edges are found in pictures of the video's size, since lines fade when they shrink."""
    from filmstrip.media import canny_edges

    found: dict[str, Any] = {}
    for name, one in inputs.items():
        found[name] = one.pictures[0] if name == "image" else one.pictures
        if one.is_edges:
            size = values["width"], values["height"]
            found[name] = canny_edges([picture.resize(size) for picture in one.pictures])
    return found


def _file_fps(job: Job, call: Call, request: Request) -> float:
    if "frame_rate" in call:
        return float(request.size.frame_rate)
    if job.fps is not None:
        return job.fps
    return next((one.fps for one in job.inputs.values() if one.fps), float(request.size.frame_rate))


def _distortions(inputs: Mapping[str, Input], request: Request) -> list[str]:
    """What happens to pictures of other proportions than the video's."""
    wanted = request.size.width / request.size.height
    sentences = []
    for name, one in inputs.items():
        width, height = one.size
        if abs(width / height / wanted - 1) > _ASPECT_TOLERANCE:
            made = f"{request.size.width}x{request.size.height}"
            sentences.append(
                f"The {name.replace('_', ' ')} is {width}x{height} and is stretched to {made}; --size sets another."
            )
    return sentences
