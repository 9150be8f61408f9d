"""The recipe of Text2Video-Zero (arXiv:2303.13439, algorithm 1), whichever image model it stands on."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from filmstrip.generation.events import TOLD, Step
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.request import Request, check_whole_number
from filmstrip.generation.resolving import Rules
from filmstrip.generation.running import Report
from filmstrip.memory.residency import execution_device
from filmstrip.models.stable_diffusion.common import StableDiffusionBase
from filmstrip.models.text2video_zero.attention import AcrossFrames
from filmstrip.models.text2video_zero.motion import moved_latents
from filmstrip.nn.noise import draw_noise
from filmstrip.nn.outputs import Output
from filmstrip.schedulers import Run
from filmstrip.schedulers.exploding import ExplodingRun

logger = logging.getLogger(__name__)


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


def check_arguments(values: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The arguments as the image model's checks take them, and the frames of a video."""
    frames = check_whole_number("video_length", values["video_length"])
    check_whole_number("num_inference_steps", values["num_inference_steps"])
    check_whole_number("callback_steps", values["callback_steps"])
    if values["callback"] is not None and not callable(values["callback"]):
        raise ValueError(f"callback must be callable, got {values['callback']!r}.")
    frame_ids = None if values["frame_ids"] is None else [int(place) for place in values["frame_ids"]]
    if frame_ids is not None and len(frame_ids) != frames:
        given = len(frame_ids)
        raise ValueError(f"frame_ids has {given} places for a video_length of {frames}; give one for each frame.")
    if values["cross_attention_kwargs"]:
        raise ValueError("cross_attention_kwargs has no effect on attention across frames; drop it.")
    output_type = "np" if values["output_type"] == "tensor" else values["output_type"]
    # The paper's 44 and 47 of 50 steps, or as near to them as so many steps can be.
    steps = values["num_inference_steps"]
    if steps < 2:
        raise ValueError("num_inference_steps must be at least 2: later frames begin before the last step.")
    t1 = min(round(0.94 * steps), steps - 1) if values["t1"] is None else values["t1"]
    t0 = min(round(0.88 * steps), t1 - 1) if values["t0"] is None else values["t0"]
    return {**values, "output_type": output_type, "t0": t0, "t1": t1, "frame_ids": frame_ids}, frames


def checked_recipe(request: Request, run: Run, scheduler: Any) -> Request:
    """The request, if its steps can be made with a scheduler, with a note where they can't be made well."""
    steps, t0, t1 = len(run.timesteps), request["t0"], request["t1"]
    if not 0 <= t0 < t1 < steps:
        raise ValueError(f"t0 and t1 must be steps before the end, 0 <= t0 < t1 < {steps}, got {t0} and {t1}.")
    if not hasattr(scheduler, "alphas"):
        raise ValueError(f"{type(scheduler).__name__} has no noise to be added again; use DDIM or another.")
    if isinstance(run, ExplodingRun):
        # The formula of the recipe is for latents of a steady variance; the reference uses it for these, too.
        sentence = f"{type(scheduler).__name__} gives later frames less noise than the first; DDIMScheduler does not."
        logger.warning(sentence, extra=TOLD)
        request = replace(request, size=replace(request.size, adjustments=(*request.size.adjustments, sentence)))
    share = request.options.get("denoising_end")
    if share is None:
        return request
    if not 0 < share <= 1:
        raise ValueError(f"denoising_end must be above 0 and at most 1, got {share}.")
    begin, _, last = _milestones(request, run.timesteps.tolist(), len(scheduler.alphas))
    if last <= begin:
        raise ValueError(
            f"denoising_end ({share}) comes before the later frames begin, {t1} steps before the end; "
            "raise it or t1, or drop it."
        )
    return request


def _milestones(request: Request, timesteps: Sequence[float], num_train_timesteps: int) -> tuple[int, int, int]:
    """The step at which later frames begin, the one whose latents they are made of, and the first not to be made."""
    begin, end = (len(timesteps) - request[name] - 1 for name in ("t1", "t0"))
    share = request.options.get("denoising_end")
    if share is None:
        return begin, end, len(timesteps)
    cutoff = round(num_train_timesteps - share * num_train_timesteps)
    return begin, end, sum(timestep >= cutoff for timestep in timesteps)


def video_steps(pipeline: Any, request: Request, prompts: Prompts) -> Iterator[Step]:
    """Yield the latents after every step: first those of the first frames, then those of all frames.

    Args:
        pipeline: its U-Net, its scheduler and its `sample` are used.
        prompts: one row for each video.
    """
    run, num_frames = pipeline.start(request), request.size.num_frames
    timesteps, alphas = run.timesteps.tolist(), pipeline.scheduler.alphas
    begin, end, last = _milestones(request, timesteps, len(alphas))
    total, done, scale = end + last - begin, 0, request["guidance_scale"]

    def told(latents: Tensor, run: Run, span: tuple[int, int]) -> Iterator[Step]:
        nonlocal done, scale, prompts
        frames_each = len(latents) // request.num_videos
        rows = request_of_rows(request, len(latents)).with_options(guidance_scale=scale)
        unet = AcrossFrames(pipeline.unet, frames_each)
        for step in pipeline.sample(rows, prompts.repeated(frames_each), latents, run, unet=unet, span=span):
            step.index, step.total = done, total
            done += 1
            yield step
            # What a callback has replaced holds for all steps to come.
            scale = scale if step.guidance_scale is None else step.guidance_scale
            if frames_each == 1:
                changed: dict[str, Any] = dict(step.tensors)
                prompts = replace(prompts, **changed)
            is_due = step.index % request["callback_steps"] == 0 and not step.is_repeated
            if request["callback"] is not None and is_due:
                request["callback"](step.index, step.timestep, step.latents)

    latents = noisy = pipeline.initial_noise(request, run)
    again = run
    for span in ((0, begin), (begin, end)):
        for step in told(latents, run, span):
            yield step
            latents = step.latents
        if span[1] == begin:
            noisy, again = latents, copy.deepcopy(run)
    signal = float(alphas[int(timesteps[end]) : int(timesteps[begin])].double().prod())
    frames = _all_frames(request, noisy, latents, signal)
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
    request: Request, first: Tensor, cleaner: Tensor, signal: float
) -> Tensor:  # (batch * frames, channels, height, width)
    """The first frame, and the others: as it is when cleaner, moved, and as noisy as it.

    Args:
        signal: the share of the cleaner one's variance that is left in the first.
    """
    num_frames = request.size.num_frames
    later = cleaner[:, None][:, :0]
    if num_frames > 1:
        places = list(request["frame_ids"] or range(num_frames))
        strengths = request["motion_field_strength_x"], request["motion_field_strength_y"]
        later = moved_latents(cleaner, places[1:], *strengths)
    noise = draw_noise(later.shape, request.generator, later.device)
    later = later * signal**0.5 + noise * (1 - signal) ** 0.5
    return torch.cat([first[:, None], later], dim=1).flatten(0, 1)


def request_of_rows(request: Request, num_rows: int) -> Request:
    """The request as a batch of frames is to be sampled by it: with a generator for each row if there are several."""
    if not isinstance(request.generator, Sequence):
        return request
    return replace(request, generator=[one for one in request.generator for _ in range(num_rows // request.num_videos)])


def rows_of_frames(request: Request, clips: Tensor) -> Tensor:  # (batch * frames, channels, height, width)
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

    def finished_latents(self, request: Request, latents: Tensor) -> Tensor:
        """Latents of all frames, (batch, frames, channels, height, width)."""
        return whole_video(request, latents)

    def decode(self, request: Request, latents: Tensor) -> Iterator[Tensor]:
        """Yield the videos frame by frame."""
        return decode_frames(self.vae, request, latents)

    def output(self, frames: Any, report: Report) -> Any:
        """The videos of a run, and their frames one after the other."""
        if isinstance(frames, list):
            images: Any = [frame for video in frames for frame in video]
        elif isinstance(frames, np.ndarray):
            images = frames.reshape(-1, *frames.shape[2:])
        else:
            images = None if frames is None else frames.flatten(0, 1)
        return TextToVideoPipelineOutput(images, None, frames, report)


def whole_video(request: Request, latents: Tensor) -> Tensor:  # (batch, frames, channels, height, width)
    """The latents of a run, which may have been stopped before later frames began: they then are as the first."""
    return latents.unflatten(0, (request.num_videos, -1)).expand(-1, request.size.num_frames, -1, -1, -1)


def decode_frames(vae: Any, request: Request, latents: Tensor) -> Iterator[Tensor]:
    """Yield the videos of a run's latents frame by frame, (batch, 3, 1, height, width)."""
    latents = (whole_video(request, latents) / vae.config.scaling_factor).to(execution_device(vae), vae.dtype)
    for frames in latents.unbind(1):
        yield torch.cat(list(vae.decode_stream(frames))).unsqueeze(2)
