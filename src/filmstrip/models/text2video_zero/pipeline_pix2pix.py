"""Text2Video-Zero with InstructPix2Pix: a video changed by an instruction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from filmstrip.checks import check_count, known
from filmstrip.generation.arguments import Embedded, Noised, Prompted, Repeated, Sized, Texts, argument, call
from filmstrip.generation.beginning import posterior_of
from filmstrip.generation.events import Step
from filmstrip.generation.request import read_clips
from filmstrip.generation.session import Session
from filmstrip.memory.residency import execution_device
from filmstrip.models.stable_diffusion.arguments import PictureRequest, asked_size
from filmstrip.models.stable_diffusion.common import StableDiffusionBase
from filmstrip.models.stable_diffusion.pipeline_pix2pix import (
    CALLBACK_TENSORS,
    ChangeRequest,
    Instructed,
    Instructions,
    change,
)
from filmstrip.models.text2video_zero.attention import AcrossFrames
from filmstrip.models.text2video_zero.recipe import (
    TextToVideoPipelineOutput,
    VideosOfPictures,
    generator_of_rows,
    rows_of_frames,
)
from filmstrip.records import record


@dataclass(frozen=True, eq=False)
class ChangedClip(Prompted):
    """The clip to change, after the instruction."""

    prompt: Texts | None = argument('the instruction, such as "make it snowy".', role="text", instead="prompt_embeds")
    video: Any = argument(
        "the frames of the clip to change; a list of clips has one for each prompt. They are resized, and the video is "
        "as long as they.",
        role="clip",
    )


@record("text2video-zero pix2pix arguments")
@dataclass(frozen=True, eq=False)
class ChangeArguments(Instructed, Embedded, Repeated, Noised, Sized, ChangedClip):
    """What a change of clips takes."""

    _: KW_ONLY
    latents: Tensor | None = argument("the initial noise, (batch, frames, channels, height / 8, width / 8).")


class TextToVideoZeroInstructPix2PixPipeline(VideosOfPictures, StableDiffusionBase):
    """Changes a video as an instruction says, frame by frame (arXiv:2303.13439, 3.3; arXiv:2211.09800)."""

    family_defaults: ClassVar[dict[str, Any]] = {**VideosOfPictures.family_defaults, "num_inference_steps": 100}

    _callback_tensor_inputs: ClassVar[tuple[str, ...]] = CALLBACK_TENSORS
    _latents_per_call: ClassVar[int] = 2
    _frame_dim: ClassVar[int | None] = 1

    __call__ = call(ChangeArguments, TextToVideoPipelineOutput, "Change videos.")

    def check(self, arguments: ChangeArguments) -> ChangeRequest:
        if arguments.video is None:
            raise ValueError("InstructPix2Pix changes a clip, and none was given; pass its frames as video.")
        arguments.check_image_scale()
        clips = read_clips(self.rules, arguments.video, arguments)
        request = self.checked(ChangeRequest, arguments, asked_size(arguments), clips.shape[2])
        check_count("clips", clips, request.num_prompts)
        return replace(request, pixels=clips)

    def latent_shape(self, request: PictureRequest[Any]) -> tuple[int, ...]:
        """Batch, frames, channels, height and width of the latents."""
        batch, *rest = super().latent_shape(request)
        return (batch, request.size.num_frames, *rest)

    def encode(self, session: Session[ChangeRequest]) -> Instructions:
        """The instructions, and the latents of the clips, one row for each frame."""
        request, num_frames = session.request, session.request.size.num_frames
        frames = known(request.pixels).movedim(2, 1).flatten(0, 1)
        latents = posterior_of(self.vae, frames, session.coding).mode().float()
        clips = latents.unflatten(0, (-1, num_frames)).movedim(1, 2)
        pictures = rows_of_frames(request, clips).to(execution_device(self.unet))
        return Instructions.of(self.encode_prompts(session).repeated(num_frames), image_latents=pictures)

    def steps(self, session: Session[ChangeRequest], conditions: Instructions) -> Iterator[Step]:
        """Yield the latents of all frames after every step."""
        run, num_frames = self.start(session.request), session.request.size.num_frames
        latents = self.initial_noise(session, run).flatten(0, 1)
        unet, generator = AcrossFrames(self.unet, num_frames), generator_of_rows(session, num_frames)
        yield from change(session, unet, conditions, latents, run, generator)
