"""CogVideoX: video to video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from filmstrip.checks import check_count, check_one_of, known
from filmstrip.generation.arguments import Arguments, argument, call
from filmstrip.generation.beginning import drawn_noise
from filmstrip.generation.events import Step
from filmstrip.generation.output import VideoOutput
from filmstrip.generation.request import read_clips
from filmstrip.generation.session import Session
from filmstrip.memory.residency import execution_device
from filmstrip.models.cogvideox.common import CogVideoXArguments, CogVideoXRequest, CogVideoXVideoPipeline, Conditions
from filmstrip.records import record


@dataclass(frozen=True, eq=False)
class Clip(Arguments):
    """The clip to change."""

    video: Any = argument(
        "the frames of a clip; a list of clips has one for each prompt. They are resized.",
        role="clip",
        instead="latents",
    )


@record("cogvideox video arguments")
@dataclass(frozen=True, eq=False)
class VideoArguments(CogVideoXArguments, Clip):
    """What video to video takes."""

    _: KW_ONLY
    latents: Tensor | None = argument(
        "in place of `video`, latents as noisy as the first step expects, (batch, latent frames, channels, height / 8, "
        "width / 8)."
    )
    strength: float = argument(
        "how much of the schedule is run, from nearly 0 (the clip stays) to 1 (only its length stays).",
        0.8,
        range="share",
    )


Start = tuple[Conditions, Tensor | None]
"""The prompts, and scaled latents of the clips, (videos, frames, channels, height, width)."""


class CogVideoXVideoToVideoPipeline(CogVideoXVideoPipeline):
    """Changes a video as a text says, by denoising it again from some noise (arXiv:2108.01073)."""

    __call__ = call(VideoArguments, VideoOutput, "Generate videos from videos, as long as they.")

    def check(self, arguments: VideoArguments) -> CogVideoXRequest[VideoArguments]:
        video, latents = arguments.video, arguments.latents
        check_one_of("Video to video", video=video, latents=latents)
        if latents is not None:
            request = self.checked(arguments, self.num_frames_of(latents.shape[1]))
        else:
            pixels = read_clips(self.rules, video, arguments)
            request = self.checked(arguments, pixels.shape[2], pixels=pixels)
            check_count("videos", pixels, request.num_prompts)
        run = self.start(request)
        if run.begin_of(arguments.strength) == len(run.timesteps):
            raise ValueError(f"strength {arguments.strength} leaves none of {len(run.begins)} steps; raise it.")
        return request

    def encode(self, session: Session[CogVideoXRequest[VideoArguments]]) -> Start:
        """The prompts, and the latents of the clips."""
        prompts, pixels = Conditions.of(self.encode_prompts(session)), session.request.pixels
        return prompts, None if pixels is None else self.encode_clip(session, pixels)

    def steps(self, session: Session[CogVideoXRequest[VideoArguments]], conditions: Start) -> Iterator[Step]:
        """Yield the latents after every step."""
        prompts, clips = conditions
        request, device = session.request, execution_device(self.transformer)
        run = self.start(request)
        begin = run.begin_of(request.arguments.strength)
        if clips is None:
            latents = known(request.arguments.latents).to(device, torch.float32)
        else:
            noise = drawn_noise(session, self.latent_shape(request), device, frame_dim=1)
            latents = run.add_noise(clips, noise, begin)
        yield from self.sample(session, prompts, latents, run, begin=begin)
