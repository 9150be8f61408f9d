"""The recipe of Text2Video-Zero (arXiv:2303.13439, algorithm 1), whichever image model it stands on."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from filmstrip.checks import check_choice, check_whole_number, known
from filmstrip.generation.arguments import OUTPUT_TYPES, Prompted, Repeated, argument
from filmstrip.generation.calling_back import CalledBack
from filmstrip.generation.events import Step
from filmstrip.generation.output import Report
from filmstrip.generation.request import adjusted
from filmstrip.generation.resolve import Rules
from filmstrip.generation.session import Session
from filmstrip.memory.coding import Coding
from filmstrip.memory.residency import execution_device
from filmstrip.models.stable_diffusion.arguments import PictureConditions, PictureRequest, Processed, asked_size
from filmstrip.models.stable_diffusion.common import StableDiffusionBase
from filmstrip.models.text2video_zero.attention import AcrossFrames
from filmstrip.models.text2video_zero.motion import moved_latents
from filmstrip.outputs import Output
from filmstrip.randomness import Generators, draw_noise
from filmstrip.records import record
from filmstrip.schedulers import Run
from filmstrip.schedulers.exploding import ExplodingRun


@dataclass(frozen=True, eq=False)
class Video(Prompted):
    """A length, after the prompt."""

    video_length: int = argument("frames of a video.", 8, range="count", role="length")


@dataclass(frozen=True, eq=False)
class Moving(CalledBack, Repeated, Processed):
    """What videos take whose later frames are the first one, moved."""

    _: KW_ONLY
    output_type: str = argument('"np", for which "tensor" is another name, "pil", "pt", "uint8" or "latent".', "np")
    latents: Tensor | None = argument("the initial noise of the first frame, (batch, channels, height / 8, width / 8).")
    motion_field_strength_x: float = argument(
        "how far the picture moves from one frame to the next, in 512ths of its width.", 12
    )
    motion_field_strength_y: float = argument("the same along its height.", 12)
    t0: int | None = argument(
        "steps before the end, below t1: later frames are the first frame as it is there, moved and made noisy again."
    )
    t1: int | None = argument(
        "steps before the end, where later frames begin. By default 44 and 47 of 50 steps, in proportion for others."
    )
    frame_ids: Sequence[int] | None = argument(
        "the places of the frames in a longer video that is made in parts, each of which begins with the first frame: "
        "[0, 8, 9, 10], for example. A seed must then be given."
    )

    @property
    def end(self) -> float | None:
        """The share of the noise levels at which to end, if not at the last."""
        return None


@record("text2video-zero request")
@dataclass(frozen=True, eq=False, kw_only=True)
class MovingRequest(PictureRequest[Moving]):
    """What a run is to do; `t0`, `t1` and `frame_ids` of its arguments are found."""


@dataclass
class TextToVideoPipelineOutput(Output):
    """The videos of a run: `frames` as other pipelines give them, `images` all of their frames one after the other."""

    images: Any
    nsfw_content_detected: list[bool] | None = None
    """None: pictures are not judged here."""
    frames: Any = None
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("frames", "report"):
            self.pop(name, None)  # code that unpacks the result expects the pictures alone


M = TypeVar("M", bound=Moving)


def checked_arguments(arguments: M, num_frames: int) -> M:
    """The arguments as the image model's checks take them."""
    check_whole_number("video_length", num_frames)
    check_whole_number("num_inference_steps", arguments.num_inference_steps)
    arguments.check_old_callback()
    frame_ids = None if arguments.frame_ids is None else [int(place) for place in arguments.frame_ids]
    if frame_ids is not None and len(frame_ids) != num_frames:
        given = len(frame_ids)
        raise ValueError(f"frame_ids has {given} places for a video_length of {num_frames}; give one for each frame.")
    if arguments.cross_attention_kwargs:
        raise ValueError("cross_attention_kwargs has no effect on attention across frames; drop it.")
    output_type = "np" if arguments.output_type == "tensor" else arguments.output_type
    check_choice("output_type", output_type, OUTPUT_TYPES)
    # The paper's 44 and 47 of 50 steps, or as near to them as so many steps can be.
    steps = arguments.num_steps
    if steps < 2:
        raise ValueError("num_inference_steps must be at least 2: later frames begin before the last step.")
    t1 = min(round(0.94 * steps), steps - 1) if arguments.t1 is None else arguments.t1
    t0 = min(round(0.88 * steps), t1 - 1) if arguments.t0 is None else arguments.t0
    return replace(arguments, output_type=output_type, t0=t0, t1=t1, frame_ids=frame_ids)


def checked_recipe(request: MovingRequest, run: Run, scheduler: Any) -> MovingRequest:
    """The request, if its steps can be made with a scheduler, with a note where they can't be made well."""
    steps, t0, t1 = len(run.begins), known(request.arguments.t0), known(request.arguments.t1)
    if not 0 <= t0 < t1 < steps:
        raise ValueError(f"t0 and t1 must be steps before the end, 0 <= t0 < t1 < {steps}, got {t0} and {t1}.")
    if not hasattr(scheduler, "alphas"):
        raise ValueError(f"{type(scheduler).__name__} has no noise to be added again; use DDIM or another.")
    if isinstance(run, ExplodingRun):
        # The formula of the recipe is for latents of a steady variance; the reference uses it for these, too.
        request = adjusted(
            request, f"{type(scheduler).__name__} gives later frames less noise than the first; DDIMScheduler does not."
        )
    share = request.arguments.end
    if share is None:
        return request
    if not 0 < share <= 1:
        raise ValueError(f"denoising_end must be above 0 and at most 1, got {share}.")
    begin, _, last = _milestones(request.arguments, run, len(scheduler.alphas))
    if last <= begin:
        raise ValueError(
            f"denoising_end ({share}) comes before the later frames begin, {t1} steps before the end; "
            "raise it or t1, or drop it."
        )
    return request


def _milestones(arguments: Moving, run: Run, num_train_timesteps: int) -> tuple[int, int, int]:
    """Where later frames begin, where the latents are that they are made of, and what is not to be made any more.

    Each is the call of the network with which a step begins; some solvers make several for a step.
    """
    begin, end = (run.call_before_end(known(steps)) for steps in (arguments.t1, arguments.t0))
    if arguments.end is None:
        return begin, end, len(run.timesteps)
    return begin, end, run.call_below(round(num_train_timesteps - arguments.end * num_train_timesteps))


def video_steps(
    pipeline: StableDiffusionBase, session: Session[MovingRequest], conditions: PictureConditions
) -> Iterator[Step]:
    """Yield the latents after every step: first those of the first frames, then those of all frames.

    Args:
        pipeline: its U-Net, its scheduler and its `sample` are used.
        conditions: one row for each video.
    """
    request, arguments = session.request, session.request.arguments
    run, num_frames = pipeline.start(request), request.size.num_frames
    timesteps, alphas = run.timesteps.tolist(), pipeline.scheduler.alphas
    begin, end, last = _milestones(arguments, run, len(alphas))
    total, done, scale = end + last - begin, 0, arguments.guidance

    def told(latents: Tensor, run: Run, span: tuple[int, int]) -> Iterator[Step]:
        nonlocal done, scale, conditions
        frames_each = len(latents) // request.num_videos
        unet, generator = AcrossFrames(pipeline.unet, frames_each), generator_of_rows(session, frames_each)
        rows = conditions.repeated(frames_each)
        for step in pipeline.sample(
            session, rows, latents, run, unet=unet, scale=scale, span=span, generator=generator
        ):
            step.index, step.total = done, total
            done += 1
            yield step
            # What a callback has replaced holds for all steps to come.
            scale = scale if step.guidance_scale is None else step.guidance_scale
            if frames_each == 1:
                changed: dict[str, Any] = dict(step.tensors)
                conditions = replace(conditions, **changed)
            arguments.call_back(step)

    latents = noisy = pipeline.initial_noise(session, run)
    again = run
    for span in ((0, begin), (begin, end)):
        for step in told(latents, run, span):
            yield step
            latents = step.latents
        if span[1] == begin:
            noisy, again = latents, copy.deepcopy(run)
    signal = float(alphas[int(timesteps[end]) : int(timesteps[begin])].double().prod())
    frames = _all_frames(session, noisy, latents, signal)
    _remember_for_each(again, num_frames)
    yield from told(frames, again, (begin, last))


def _remember_for_each(run: Run, num_frames: int) -> None:
    """Let a solver that remembers steps, of the first frames, go on with as many rows for all frames."""

    def repeated(memory: Any) -> Any:
        if type(memory) in (list, tuple):
            return type(memory)(repeated(one) for one in memory)
        return memory.repeat_interleave(num_frames, 0) if isinstance(memory, Tensor) else memory

    for memory in vars(run).values():
        if isinstance(memory, list):  # the rest of a run never changes
            memory[:] = repeated(memory)


def _all_frames(
    session: Session[MovingRequest], first: Tensor, cleaner: Tensor, signal: float
) -> Tensor:  # (batch * frames, channels, height, width)
    """The first frame, and the others: as it is when cleaner, moved, and as noisy as it.

    Args:
        signal: the share of the cleaner one's variance that is left in the first.
    """
    num_frames, arguments = session.request.size.num_frames, session.request.arguments
    later = cleaner[:, None][:, :0]
    if num_frames > 1:
        places = list(arguments.frame_ids or range(num_frames))
        strengths = arguments.motion_field_strength_x, arguments.motion_field_strength_y
        later = moved_latents(cleaner, places[1:], *strengths)
    noise = draw_noise(later.shape, session.generator, later.device)
    later = later * signal**0.5 + noise * (1 - signal) ** 0.5
    return torch.cat([first[:, None], later], dim=1).flatten(0, 1)


def generator_of_rows(session: Session[Any], rows_each: int) -> Generators:
    """The generators of a batch with so many rows for each video: one for each row if there are several."""
    if not isinstance(session.generator, Sequence):
        return session.generator
    return [one for one in session.generator for _ in range(rows_each)]


def rows_of_frames(request: PictureRequest[Any], clips: Tensor) -> Tensor:  # (batch * frames, channels, height, width)
    """Clips, (clips, channels, frames, height, width), one for all or one for each prompt, frame by frame."""
    return request.per_video(clips).movedim(2, 1).flatten(0, 1)


class VideosOfPictures:
    """What pipelines have that make the frames of videos as pictures: mixed in before the pipeline of pictures."""

    vae: Any
    family_defaults: ClassVar[dict[str, Any]] = {**StableDiffusionBase.family_defaults, "frame_rate": 4}

    @property
    def rules(self) -> Rules:
        """The sizes and lengths that these components can make: any length."""
        return replace(super().rules, title="Text2Video-Zero")  # type: ignore[misc]

    def finished_latents(self, session: Session[Any], latents: Tensor) -> Tensor:
        """Latents of all frames, (batch, frames, channels, height, width).

        Of a run that was stopped before later frames began, they all are as the first.
        """
        size, num_videos = session.request.size, session.request.num_videos
        return latents.unflatten(0, (num_videos, -1)).expand(-1, size.num_frames, -1, -1, -1)

    def decode(self, session: Session[Any], vae: Any, latents: Tensor, coding: Coding | None) -> Iterator[Tensor]:
        """Yield the videos frame by frame, (batch, 3, 1, height, width)."""
        latents = self.finished_latents(session, latents) / vae.config.scaling_factor
        for frames in latents.to(execution_device(vae), vae.dtype).unbind(1):
            yield torch.cat(list(vae.decode_stream(frames, coding=coding))).unsqueeze(2)

    def output(self, frames: Any, report: Report) -> Any:
        """The videos of a run, and their frames one after the other."""
        if isinstance(frames, list):
            images: Any = [frame for video in frames for frame in video]
        elif isinstance(frames, np.ndarray):
            images = frames.reshape(-1, *frames.shape[2:])
        else:
            images = None if frames is None else frames.flatten(0, 1)
        return TextToVideoPipelineOutput(images, None, frames, report)


class MovingPictures(VideosOfPictures, StableDiffusionBase):
    """What pipelines share whose later frames are the first one, moved."""

    def check(self, arguments: Any) -> MovingRequest:
        arguments = checked_arguments(arguments, arguments.video_length)
        request = self.checked(MovingRequest, arguments, asked_size(arguments), arguments.video_length)
        return checked_recipe(request, self.start(request), self.scheduler)

    def steps(self, session: Session[MovingRequest], conditions: PictureConditions) -> Iterator[Step]:
        """Yield the latents after every step: first those of the first frames, then those of all frames."""
        return video_steps(self, session, conditions)
