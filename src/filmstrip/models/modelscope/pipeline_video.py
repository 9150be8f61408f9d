"""ModelScope: video to video, with which zeroscope XL enlarges the videos of zeroscope 576w."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.checks import check_count, known
from filmstrip.generation.arguments import Arguments, Prompted, Sampled, argument, call
from filmstrip.generation.beginning import drawn_noise, posterior_of
from filmstrip.generation.events import Step
from filmstrip.generation.output import VideoOutput
from filmstrip.generation.request import adjusted, read_clips
from filmstrip.generation.session import Session
from filmstrip.media.pixels import picture_size
from filmstrip.memory.residency import execution_device
from filmstrip.models.modelscope.common import ModelScopeArguments, ModelScopeBase
from filmstrip.models.stable_diffusion.arguments import PictureConditions, PictureRequest
from filmstrip.randomness import draw_noise
from filmstrip.records import record


@dataclass(frozen=True, eq=False)
class Clip(Arguments):
    """The clip to change, and how much of it."""

    video: Any = argument(
        "the frames of a clip, as many as the video will have; a list of clips has one for each prompt. Scaled latents "
        "that the autoencoder has made of them, (clips, frames, channels, height / 8, width / 8), are taken as well.",
        role="clip",
    )
    strength: float = argument(
        "how much of the schedule is run, from nearly 0 (the clip stays) to 1 (only its length stays).",
        0.6,
        range="share",
    )


@record("modelscope video arguments")
@dataclass(frozen=True, eq=False)
class VideoArguments(ModelScopeArguments, Sampled, Clip, Prompted):
    """What video to video takes."""

    _: KW_ONLY
    height: int | None = argument(
        "in pixels; the clip is resized. None: what the checkpoint was made for, else the clip's own, rounded down to "
        "what the model can make.",
        role="side",
    )
    width: int | None = argument("as `height`.", role="side")
    latents: Tensor | None = argument(
        "the noise that is put on the clip, (batch, channels, frames, height / 8, width / 8)."
    )


@record("modelscope video request")
@dataclass(frozen=True, eq=False, kw_only=True)
class VideoRequest(PictureRequest[VideoArguments]):
    """What a run of video to video is to do."""

    pixels: Tensor | None = None  # of clips, (clips, 3, frames, height, width)
    clip_latents: Tensor | None = None
    """In their place, scaled latents, (clips, frames, channels, height, width)."""


Start = tuple[PictureConditions, Tensor]
"""The prompts, and scaled latents of the clips, (videos, frames, channels, height, width)."""


class VideoToVideoSDPipeline(ModelScopeBase):
    """Changes a video as a text says, by denoising it again from some noise (arXiv:2108.01073)."""

    family_defaults: ClassVar[dict[str, Any]] = {**ModelScopeBase.family_defaults, "guidance_scale": 15.0}

    __call__ = call(VideoArguments, VideoOutput, "Generate videos from videos, as long as they.")

    def usual_defaults(self) -> dict[str, Any]:
        """The family's defaults: clips keep their size."""
        return dict(self.family_defaults)

    def check(self, arguments: VideoArguments) -> VideoRequest:
        arguments.check_old_callback()
        video = arguments.video
        if video is None or (isinstance(video, (list, tuple)) and not video):
            raise ValueError("Video to video changes a clip, and none was given; pass its frames as video.")
        if _is_latents(video, self.vae.config.latent_channels):
            latents = video if video.dim() == 5 else video[None]
            sized, note = self._sized(arguments, latents)
            num_frames, found = latents.shape[1], {"clip_latents": latents}
        else:
            sized, note = self._sized(arguments)
            pixels = read_clips(self.rules, video, sized)  # type: ignore[arg-type]
            num_frames, found = pixels.shape[2], {"pixels": pixels}
        request = self.checked(VideoRequest, sized, (known(sized.height), known(sized.width)), num_frames, **found)
        check_count("clips", next(iter(found.values())), request.num_prompts)
        run = self.start(request)
        if run.begin_of(sized.strength) == len(run.timesteps):
            raise ValueError(f"strength {sized.strength} leaves none of {len(run.begins)} steps; raise it.")
        return adjusted(request, note) if note else request

    def _sized(self, arguments: VideoArguments, latents: Tensor | None = None) -> tuple[VideoArguments, str]:
        """The arguments with a size, and a sentence where it is not the one that was asked for or given."""
        ratio, asked = self.vae.spatial_compression_ratio, (arguments.height, arguments.width)
        if latents is not None:
            size = latents.shape[3] * ratio, latents.shape[4] * ratio
            said = asked not in (size, (None, None))
            note = f"The video is as large as the latents of the clip, {size[1]}x{size[0]}." if said else ""
            return replace(arguments, height=size[0], width=size[1]), note
        own = clip_size(arguments.video)
        height, width = (
            max(side // ratio, 1) * ratio if given is None else given for given, side in zip(asked, own, strict=True)
        )
        note = ""
        if asked == (None, None) and own != (height, width):
            note = f"The clip is {own[1]}x{own[0]} and the video {width}x{height}: its sides are multiples of {ratio}."
        return replace(arguments, height=height, width=width), note

    def encode(self, session: Session[VideoRequest]) -> Start:
        """The prompts, and the latents of the clips."""
        request, prompts = session.request, self.encode_prompts(session)
        if request.clip_latents is not None:
            return prompts, request.per_video(request.clip_latents).to(execution_device(self.unet), torch.float32)
        frames = known(request.pixels).movedim(2, 1).flatten(0, 1)  # (clips * frames, 3, height, width)
        posterior = posterior_of(self.vae, frames, session.coding)
        mean, std = (
            request.per_video(one.float().unflatten(0, (-1, request.size.num_frames)))
            for one in (posterior.mean, posterior.std)
        )
        clips = mean + std * draw_noise(mean.shape, session.generator, mean.device)
        return prompts, (clips * self.vae.config.scaling_factor).to(execution_device(self.unet))

    def steps(self, session: Session[VideoRequest], conditions: Start) -> Iterator[Step]:
        """Yield the latents after every step."""
        prompts, clips = conditions
        run, arguments = self.start(session.request), session.request.arguments
        begin = run.begin_of(arguments.strength)
        noise = arguments.latents
        if noise is None:  # frame by frame, as the reference draws it here
            noise = drawn_noise(session, clips.shape, clips.device, frame_dim=1).transpose(1, 2)
        latents = run.add_noise(clips.transpose(1, 2), noise.to(clips), begin)
        yield from self.told(session, prompts, latents, run, begin)


def clip_size(clips: Any) -> tuple[int, int]:
    """Height and width of a clip, or of the first of several."""
    while isinstance(clips, (list, tuple)) and clips:
        clips = clips[0]
    return picture_size(clips[0] if getattr(clips, "ndim", 0) == 5 else clips)


def _is_latents(video: Any, channels: int) -> bool:
    """Whether a clip is given as latents: frames of the autoencoder's number of channels, which no pixels have."""
    return isinstance(video, Tensor) and video.dim() in (4, 5) and video.shape[-3] == channels
