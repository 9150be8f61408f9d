"""Text2Video-Zero with ControlNet: text and a control video to video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from torch import Tensor

from filmstrip.checks import check_count
from filmstrip.generation.arguments import Embedded, Prompted, Repeated, Sampled, Sized, argument, call
from filmstrip.generation.events import Step
from filmstrip.generation.request import read_clips
from filmstrip.generation.session import Session
from filmstrip.memory.residency import execution_device
from filmstrip.models.stable_diffusion.arguments import PictureConditions, Scheduled, Skipping, asked_size
from filmstrip.models.stable_diffusion.controlling import Controlled
from filmstrip.models.stable_diffusion.pipeline_controlnet import ControlledBase, ControlRequest
from filmstrip.models.text2video_zero.attention import AcrossFrames
from filmstrip.models.text2video_zero.recipe import (
    TextToVideoPipelineOutput,
    VideosOfPictures,
    generator_of_rows,
    rows_of_frames,
)
from filmstrip.records import record


@dataclass(frozen=True, eq=False)
class ControlClip(Prompted):
    """The clip to follow, after the prompt."""

    control_video: Any = argument(
        "the frames of a clip of poses or edges, which the video follows one by one; a list of clips has one for each "
        "prompt. With several ControlNets, a list with what each of them is given. They are resized, and the video is "
        "as long as they.",
        role="clip",
    )


@record("text2video-zero control arguments")
@dataclass(frozen=True, eq=False)
class ControlArguments(Controlled, Embedded, Repeated, Skipping, Scheduled, Sampled, Sized, ControlClip):
    """What control by a clip takes."""

    _: KW_ONLY
    latents: Tensor | None = argument(
        "the initial noise, which is the same for all frames, (batch, channels, height / 8, width / 8)."
    )


class TextToVideoZeroControlNetPipeline(VideosOfPictures, ControlledBase):
    """Makes a video from a text that follows the poses or edges of a clip, frame by frame (arXiv:2303.13439, 3.3)."""

    __call__ = call(ControlArguments, TextToVideoPipelineOutput, "Generate videos that follow clips.")

    def check(self, arguments: ControlArguments) -> ControlRequest:
        given = self.given_to_nets("control_video", arguments.control_video)
        strengths = arguments.strengths(len(self.nets))
        # Control pictures are in [0, 1].
        clips = [read_clips(self.rules, one, arguments) * 0.5 + 0.5 for one in given]
        lengths = [clip.shape[2] for clip in clips]
        if len(set(lengths)) > 1:
            raise ValueError(f"control_video has clips of {lengths} frames; give each ControlNet as many.")
        request = self.checked(ControlRequest, arguments, asked_size(arguments), lengths[0], strengths=strengths)
        for clip in clips:
            check_count("control videos", clip, request.num_prompts)
        return replace(request, shown=clips)

    def encode(self, session: Session[ControlRequest]) -> PictureConditions:
        """The prompts, and the control pictures, one row for each frame."""
        request, num_frames = session.request, session.request.size.num_frames
        device, dtype = execution_device(self.unet), self.nets[0].dtype
        shown = [rows_of_frames(request, clip).to(device, dtype) for clip in request.shown or ()]
        prompts = self.encode_prompts(session).repeated(num_frames)
        return replace(prompts, pictures=shown, follows=(True,) * len(prompts.prompt_embeds))

    def steps(self, session: Session[ControlRequest], conditions: PictureConditions) -> Iterator[Step]:
        """Yield the latents of all frames after every step; they begin with the same noise."""
        run, num_frames = self.start(session.request), session.request.size.num_frames
        latents = self.initial_noise(session, run).repeat_interleave(num_frames, 0)
        unet, *nets = (AcrossFrames(network, num_frames) for network in (self.unet, *self.nets))
        control = self.controlling(session, nets, run.timesteps.tolist())
        split, generator = control.split(session.request.arguments), generator_of_rows(session, num_frames)
        yield from self.sample(session, conditions, latents, run, control, unet=unet, split=split, generator=generator)
