"""CogVideoX-Fun: text and a control video to video."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from torch import Tensor

from filmstrip.checks import check_count, check_one_of, known
from filmstrip.generation.arguments import Prompted, Texts, argument, call
from filmstrip.generation.output import VideoOutput
from filmstrip.generation.request import read_clips
from filmstrip.generation.session import Session
from filmstrip.memory.residency import execution_device
from filmstrip.models.cogvideox.common import CogVideoXArguments, CogVideoXRequest, CogVideoXVideoPipeline, Conditions
from filmstrip.records import record


@dataclass(frozen=True, eq=False)
class Control(Prompted):
    """The clip to follow, after the texts."""

    negative_prompt: Texts | None = argument("what it does not show; used with guidance.", only_guided=True)
    control_video: Any = argument(
        "the frames of a clip that the video follows frame by frame; a list of clips has one for each prompt. They are "
        "resized, and the video is as long as they.",
        role="clip",
        instead="control_video_latents",
    )


@record("cogvideox control arguments")
@dataclass(frozen=True, eq=False)
class ControlArguments(CogVideoXArguments, Control):
    """What control by a clip takes."""

    _: KW_ONLY
    control_video_latents: Tensor | None = argument(
        "in place of `control_video`, the autoencoder's latents times its scaling factor, one for all or one for each "
        "prompt, (clips, channels, latent frames, height / 8, width / 8)."
    )


class CogVideoXFunControlPipeline(CogVideoXVideoPipeline):
    """Makes a video that follows the poses, edges or depths of a control video (aigc-apps, CogVideoX-Fun)."""

    latents_per_channel: ClassVar[int] = 2
    condition_word: ClassVar[str] = "latents and a control video"

    __call__ = call(ControlArguments, VideoOutput, "Generate videos that follow control videos.")

    def check(self, arguments: ControlArguments) -> CogVideoXRequest[ControlArguments]:
        video, latents = arguments.control_video, arguments.control_video_latents
        check_one_of("Control", control_video=video, control_video_latents=latents)
        if latents is not None:
            request = self.checked(arguments, self.num_frames_of(latents.shape[2]))
            self.check_latents("control_video_latents", latents, request, channels_first=True)
        else:
            pixels = read_clips(self.rules, video, arguments)
            request = self.checked(arguments, pixels.shape[2], pixels=pixels)
            check_count("control videos", pixels, request.num_prompts)
        return request

    def encode(self, session: Session[CogVideoXRequest[ControlArguments]]) -> Conditions:
        """The prompts, and the latents of the control videos."""
        request = session.request
        prompts = self.encode_prompts(session)
        if request.pixels is not None:
            return Conditions.of(prompts, beside=self.encode_clip(session, request.pixels, mode=True))
        latents = known(request.arguments.control_video_latents).movedim(1, 2)  # (clips, frames, channels, ...)
        return Conditions.of(prompts, beside=request.per_video(latents.float().to(execution_device(self.transformer))))
