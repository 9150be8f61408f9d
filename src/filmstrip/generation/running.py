"""A request from its first stage to its last: what all pipelines do alike."""

from __future__ import annotations

import copy
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from filmstrip.generation.events import Event, Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.keeping import Keeper, Unfinished
from filmstrip.generation.progress import BarSettings, with_bar
from filmstrip.generation.request import Request
from filmstrip.media.pixels import video_to_output
from filmstrip.memory.coding import Coding, Way, kept_way
from filmstrip.memory.falling_back import Decode, decoded
from filmstrip.memory.residency import execution_device
from filmstrip.nn.outputs import Output


@dataclass
class Report:
    """What a run did besides making the video."""

    adjustments: tuple[str, ...] = ()
    """What was done differently from the request, and why."""
    cut_off: tuple[str, ...] = ()
    """What of each prompt did not fit into the text encoder's window."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time that each stage took."""


@dataclass
class VideoOutput(Output):
    """The videos of a run.

    `frames` is by the call's output_type: "pil" a list of pictures for each video; "np" float32 in [0, 1] and "uint8"
    an array, (batch, frames, height, width, 3); "pt" a tensor, (batch, frames, 3, height, width); "latent" latents.
    """

    frames: Any
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        super().__post_init__()
        del self["report"]  # code that unpacks the result expects the frames alone


class Recipe(Protocol):
    """What a pipeline has to say about a request; `run` does the rest."""

    bar: BarSettings
    vae: Any

    def encode(self, request: Request, report: Report) -> Any:
        """The conditions that the network is given."""

    def steps(self, request: Request, conditions: Any) -> Iterator[Step]:
        """Yield the latents after every step."""

    def finished_latents(self, request: Request, latents: Tensor) -> Tensor:
        """Latents in the shape that users get."""

    def decode(self, request: Request, latents: Tensor) -> Iterator[Tensor]:
        """Yield the video of finished latents in runs of frames, (batch, 3, frames, height, width)."""

    def output(self, frames: Any, report: Report) -> Any:
        """What users get: the frames, or the latents, and the report."""

    def maybe_free_model_hooks(self) -> None:
        """Send weights home that came to a device for the run."""


class RunView:
    """A pipeline as a callback sees it: its own attributes, and above them the state of this one run."""

    def __init__(self, pipeline: Any, request: Request) -> None:
        self._pipeline = pipeline
        self._interrupt = False
        self.request = request
        self.num_timesteps = 0
        self._guidance_scale: float = request.options.get("guidance_scale", 1.0)

    @property
    def guidance_scale(self) -> float:
        """How strongly the prompt is followed; a callback that sets `_guidance_scale` changes the steps to come."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether there is guidance at all."""
        return self._guidance_scale > 1

    def take_over(self, guidance_scale: float | None) -> None:
        """Let a scale hold that a callback has set in an earlier run, from which this one goes on."""
        self._guidance_scale = self._guidance_scale if guidance_scale is None else guidance_scale

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_pipeline"], name)


def run(recipe: Recipe, request: Request, *, collect: bool = True) -> Iterator[Event]:
    """Yield what happens while a request is carried out; to cancel it, stop reading.

    The last event carries the output; without `collect` it has no frames, for readers that take them as they come.
    """
    keeper = request.keeper or Keeper(None)
    keeper.begin(recipe, request)
    events = _events(recipe, request, keeper, collect=collect)
    try:
        if keeper.begun is None:
            yield from events
        else:
            yield from kept_way(recipe.vae, keeper.begun.coding).while_working(recipe.vae, events)
    finally:
        recipe.maybe_free_model_hooks()


@torch.no_grad()
def _events(recipe: Recipe, request: Request, keeper: Keeper, *, collect: bool) -> Iterator[Event]:
    clock = _Clock()
    report = Report(adjustments=request.size.adjustments, seconds=clock.stages)
    try:
        unfinished = keeper.begun
        if unfinished is None or unfinished.latents is None:
            latents = yield from _denoised(recipe, request, keeper, report, clock)
            unfinished = keeper.finish(latents, report.cut_off)
        report.cut_off = unfinished.cut_off
        yield from _decoded(recipe, request, unfinished, report, clock, collect=collect)
    except GeneratorExit:
        raise
    except BaseException as error:
        keeper.tell(error)
        raise


def _denoised(
    recipe: Recipe, request: Request, keeper: Keeper, report: Report, clock: _Clock
) -> Generator[Event, None, Tensor]:
    """Yield the events up to the last step; returns the latents."""
    yield Event("encode", 0, 1, clock.seconds)
    conditions = recipe.encode(request, report)
    yield Event("encode", 1, 1, clock.lap("encode"))
    view = RunView(recipe, request)
    latents: Tensor | None = None
    for step in recipe.steps(request, conditions):
        if step.is_repeated:
            view.take_over(keeper.make_changes_again(step))
        else:
            _show_to_callback(view, request, step, keeper)
        latents = step.latents
        if step.is_repeated:
            continue
        yield Event("denoise", step.index + 1, step.total, clock.lap("denoise"), step.timestep, latents)
        if view._interrupt:
            break
    assert latents is not None, "a run has at least one step"
    return latents


def _decoded(
    recipe: Recipe, request: Request, unfinished: Unfinished, report: Report, clock: _Clock, *, collect: bool
) -> Iterator[Event]:
    """Yield the events from finished latents on."""
    latents = unfinished.latents
    assert latents is not None, "denoising is done"
    frames: Any = None
    if request.output_type == "latent":
        frames = recipe.finished_latents(request, latents)
    else:
        runs = []

        size = request.size
        pictures = decoded(_decoder(recipe, request, unfinished), recipe.vae, (size.height, size.width))
        for done, pixels in _exact_frames(pictures, size.num_frames):
            check_finite(pixels, "vae", f"frame {done - pixels.shape[2] + 1}")
            if collect:
                runs.append(video_to_output(pixels, request.output_type))
            yield Event("decode", done, size.num_frames, clock.lap("decode"), frames=pixels)
        frames = _joined(runs) if collect else None
    yield Event("done", 1, 1, clock.seconds, latents=latents, output=recipe.output(frames, report))


def _decoder(recipe: Recipe, request: Request, unfinished: Unfinished) -> Decode:
    """From an autoencoder and a coding, the runs of frames of finished latents, with the same noise at every call."""
    latents, is_first = unfinished.latents, True
    assert latents is not None, "denoising is done"

    def decode(vae: Any, coding: Coding | None) -> Iterator[Tensor]:
        nonlocal is_first, request
        if not is_first and request.generator is None:
            request = replace(request, generator=unfinished.noise.generators())
        elif not is_first:
            unfinished.noise.restore(request.generator)
        is_first = False
        way = Way("as it is told", coding)
        if vae is recipe.vae:
            return way.while_working(vae, recipe.decode(request, latents))
        other = copy.copy(recipe)
        vars(other)["components"] = {**vars(recipe)["components"], "vae": vae}
        return way.while_working(vae, other.decode(request, latents.to(execution_device(vae))))

    return decode


def run_kept(recipe: Any, request: Request) -> Iterator[Event]:
    """`run`, with what is done of it kept as the pipeline was told to keep it, until its reader has read all events."""
    if request.keeper is None and recipe.keeping is not None:
        request = replace(request, keeper=recipe.keeping.keeper(type(recipe).__name__))
    yield from run(recipe, request)
    if request.keeper is not None:
        request.keeper.remove()


def result(recipe: Recipe, request: Request) -> Any:
    """Carry out a request and return what the call returns: an output, or a tuple of its fields."""
    output: Any = None
    for event in with_bar(run_kept(recipe, request), recipe.bar):
        if event.stage == "done":
            output = event.output
    return output if request.options.get("return_dict", True) else output.to_tuple()


class _Clock:
    """Seconds since a run began, and those that each stage took."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self.stages: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def lap(self, stage: str) -> float:
        now = time.monotonic()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._last
        self._last = now
        return self.seconds


def _show_to_callback(view: RunView, request: Request, step: Step, keeper: Keeper) -> None:
    """Let the call's step-end callback see, and perhaps replace, what the next step starts from."""
    callback = request.options.get("callback_on_step_end")
    if callback is None:
        return
    view.num_timesteps = step.total
    tensors = {"latents": step.latents, **step.tensors}
    names: Sequence[str] = request.options.get("callback_on_step_end_tensor_inputs") or ()
    given = {name: tensors.get(name) for name in names}  # None for what this run does without
    for name, value in (callback(view, step.index, torch.tensor(step.timestep), given) or {}).items():
        if value is tensors.get(name):  # and not what `given` has, in which the callback may have put others
            continue
        if name not in tensors:
            known = ", ".join(tensors)
            raise ValueError(f"callback_on_step_end returned {name!r}, but this run can take {known} only.")
        if name == "latents":
            step.latents = value
        else:
            step.tensors[name] = value
            keeper.change(name, value)
    step.guidance_scale = keeper.guidance_scale = view._guidance_scale


def _exact_frames(runs: Iterator[Tensor], num_frames: int) -> Iterator[tuple[int, Tensor]]:
    """Runs of frames up to exactly `num_frames`, each with how many there are by its end."""
    done = 0
    for frames in runs:
        frames = frames[:, :, : num_frames - done]
        done += frames.shape[2]
        if frames.shape[2]:
            yield done, frames
        if done == num_frames:
            return


def _joined(runs: list[Any]) -> Any:
    """Runs of frames in one of the output types, joined along time."""
    if isinstance(runs[0], list):
        return [[frame for run in runs for frame in run[video]] for video in range(len(runs[0]))]
    if isinstance(runs[0], np.ndarray):
        return np.concatenate(runs, axis=1)
    return torch.cat(runs, dim=1)
