"""One run of a request from its first stage to its last: what all pipelines do alike."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from filmstrip.generation.arguments import Arguments, Watched
from filmstrip.generation.decode import Collected, decoded_frames
from filmstrip.generation.denoise import denoise
from filmstrip.generation.events import TOLD, Event, Step
from filmstrip.generation.guidance import Conditions, Given, Guidance, Predict
from filmstrip.generation.journal import Journal
from filmstrip.generation.output import Report
from filmstrip.generation.request import Request
from filmstrip.media.pixels import video_to_output
from filmstrip.memory.coding import Coding, coding_of
from filmstrip.randomness import Generators
from filmstrip.schedulers import Run

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Request[Any], covariant=True)


class Recipe(Protocol):
    """What a pipeline has to say about a request; `run` does the rest."""

    vae: Any

    def encode(self, session: Any) -> Any:
        """The conditions that the network is given."""

    def steps(self, session: Any, conditions: Any) -> Iterator[Step]:
        """Yield the latents after every step."""

    def finished_latents(self, session: Any, latents: Tensor) -> Tensor:
        """Latents in the shape that users get."""

    def decode(self, session: Any, vae: Any, latents: Tensor, coding: Coding | None) -> Iterator[Tensor]:
        """Yield the video of finished latents in runs of frames, (batch, 3, frames, height, width).

        Args:
            vae, coding: the autoencoder to decode with, and how to divide its work; None: as it is set.
        """

    def output(self, frames: Any, report: Report) -> Any:
        """What users get: the frames, or the latents, and the report."""

    def maybe_free_model_hooks(self) -> None:
        """Send weights home that came to a device for the run."""


class View:
    """A pipeline as a callback sees it: its own attributes, and above them the state of this one run."""

    def __init__(self, pipeline: Any, arguments: Arguments) -> None:
        self._pipeline, self._arguments = pipeline, arguments
        self._interrupt = False
        self.num_timesteps = 0
        self._guidance_scale = arguments.guidance

    @property
    def guidance_scale(self) -> float:
        """How strongly the prompt is followed; a callback that sets `_guidance_scale` changes the steps to come."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether there is guidance at all."""
        return self._arguments.guides_at(self._guidance_scale)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_pipeline"], name)


class Session(Generic[R]):
    """All that changes while one request is carried out; pipelines and networks stay as they are.

    Args:
        recipe: the pipeline.
        journal: keeps what is done; nothing does if None.
    """

    def __init__(self, recipe: Recipe, request: R, journal: Journal | None = None) -> None:
        self.recipe, self.request = recipe, request
        self.journal = Journal() if journal is None else journal
        self.generator: Generators = request.generator
        self.report = Report(adjustments=request.size.adjustments)
        self.clock = Clock(self.report.seconds)
        self.view = View(recipe, request.arguments)
        kept = self.journal.coding
        self.coding: Coding | None = None if kept is None else coding_of(recipe.vae, kept)
        """How the autoencoder's work is divided; None: as the autoencoder is set."""
        self._notes: list[str] = []

    def say(self, sentence: str) -> None:
        """Tell something that the user of this run has to know: in the log, in the report and with the next event."""
        logger.warning(sentence, extra=TOLD)
        self.report.notes.append(sentence)
        self._notes.append(sentence)

    def event(self, stage: Any, step: int, total: int, **more: Any) -> Event:
        """An event of this run, with what was said since the one before."""
        notes, self._notes = tuple(self._notes), []
        seconds = self.clock.seconds if stage == "done" else self.clock.lap(stage)
        return Event(stage, step, total, seconds, notes=notes, **more)

    def denoise(
        self,
        predict: Predict[Given],
        latents: Tensor,
        run: Run,
        guidance: Guidance[Conditions, Given],
        *,
        begin: int = 0,
        end: int | None = None,
        generator: Generators = None,
        network: str = "transformer",
    ) -> Iterator[Step]:
        """Yield after every step, and let a callback change the conditions of those to come; see `denoise`.

        Args:
            generator: in place of the session's.
        """
        offered = getattr(self.recipe, "_callback_tensor_inputs", ())
        for step in denoise(
            predict,
            latents,
            run,
            guidance,
            begin=begin,
            end=end,
            generator=self.generator if generator is None else generator,
            journal=self.journal,
            network=network,
        ):
            guidance.offer(step, offered)
            yield step
            guidance.accept(step)


class Clock:
    """Seconds since a run began, and those that each stage took.

    Args:
        stages: where the latter are noted.
    """

    def __init__(self, stages: dict[str, float]) -> None:
        self._start = self._last = time.monotonic()
        self._stages = stages

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._start

    def lap(self, stage: str) -> float:
        """The seconds since the run began; those since the last lap are that stage's."""
        now = time.monotonic()
        self._stages[stage] = self._stages.get(stage, 0.0) + now - self._last
        self._last = now
        return now - self._start


def run(
    recipe: Recipe, request: Request[Any], journal: Journal | None = None, *, collect: bool = True
) -> Generator[Event, None, None]:
    """Yield what happens while a request is carried out; to cancel it, stop reading.

    The last event carries the output; without `collect` it has no frames, for readers that take them as they come.
    """
    session = Session(recipe, request, journal)
    session.journal.begin(session)
    try:
        yield from _events(session, collect=collect)
    finally:
        recipe.maybe_free_model_hooks()


@torch.no_grad()
def _events(session: Session[Any], *, collect: bool) -> Iterator[Event]:
    journal = session.journal
    try:
        latents = journal.latents
        if latents is None:
            latents = yield from _denoised(session)
            journal.finish(latents)
        else:
            session.report.cut_off = journal.cut_off
        yield from _decoded(session, latents, collect=collect)
    except GeneratorExit:
        raise
    except BaseException as error:
        journal.fail(error)
        raise


def _denoised(session: Session[Any]) -> Generator[Event, None, Tensor]:
    """Yield the events up to the last step; returns the latents."""
    yield session.event("encode", 0, 1)
    conditions = session.recipe.encode(session)
    yield session.event("encode", 1, 1)
    latents: Tensor | None = None
    for step in session.recipe.steps(session, conditions):
        if step.is_repeated:
            session.journal.repeat(step)
            if step.guidance_scale is not None:
                session.view._guidance_scale = step.guidance_scale
            latents = step.latents
            continue
        _show_to_callback(session, step)
        latents = step.latents
        yield session.event("denoise", step.index + 1, step.total, timestep=step.timestep, latents=latents)
        if session.view._interrupt:
            break
    assert latents is not None, "a run has at least one step"
    return latents


def _decoded(session: Session[Any], latents: Tensor, *, collect: bool) -> Iterator[Event]:
    """Yield the events from finished latents on."""
    output_type, num_frames = session.request.output_type, session.request.size.num_frames
    frames: Any = None
    if output_type == "latent":
        frames = session.recipe.finished_latents(session, latents)
    else:
        collected = Collected(num_frames)
        for done, pixels in decoded_frames(session, latents):
            if collect:
                collected.add(done, video_to_output(pixels, output_type))
            yield session.event("decode", done, num_frames, frames=pixels)
        frames = collected.frames
    yield session.event("done", 1, 1, latents=latents, output=session.recipe.output(frames, session.report))


def _show_to_callback(session: Session[Any], step: Step) -> None:
    """Let the call's step-end callback see, and perhaps replace, what the next step starts from."""
    arguments, view = session.request.arguments, session.view
    if not isinstance(arguments, Watched) or arguments.callback_on_step_end is None:
        return
    callback: Callable[..., Any] = arguments.callback_on_step_end
    view.num_timesteps = step.total
    tensors = {"latents": step.latents, **step.tensors}
    names: Sequence[str] = arguments.callback_on_step_end_tensor_inputs
    given = {name: tensors.get(name) for name in names}  # None for what this run does without
    changed = {}
    for name, value in (callback(view, step.index, torch.tensor(step.timestep), given) or {}).items():
        if value is tensors.get(name):  # and not what `given` has, in which the callback may have put others
            continue
        if name not in tensors:
            known = ", ".join(tensors)
            raise ValueError(f"callback_on_step_end returned {name!r}, but this run can take {known} only.")
        if name == "latents":
            step.latents = value
        else:
            step.tensors[name] = changed[name] = value
    step.guidance_scale = view._guidance_scale
    session.journal.change(changed, view._guidance_scale)
