"""Text2Video-Zero with InstructPix2Pix: a video changed by an instruction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor

from filmstrip.generation.events import Step
from filmstrip.generation.request import Request, check_count, read_clips
from filmstrip.generation.running import Report, result
from filmstrip.memory.residency import execution_device
from filmstrip.models.stable_diffusion.common import StableDiffusionBase
from filmstrip.models.stable_diffusion.pipeline_pix2pix import (
    CALLBACK_TENSORS,
    Instructions,
    change,
    check_image_scale,
    encode_pictures,
)
from filmstrip.models.text2video_zero.attention import AcrossFrames
from filmstrip.models.text2video_zero.recipe import (
    TextToVideoPipelineOutput,
    VideosOfPictures,
    request_of_rows,
    rows_of_frames,
)


class TextToVideoZeroInstructPix2PixPipeline(VideosOfPictures, StableDiffusionBase):
    """Changes a video as an instruction says, frame by frame (arXiv:2303.13439, 3.3; arXiv:2211.09800)."""

    family_defaults: ClassVar[dict[str, Any]] = {**VideosOfPictures.family_defaults, "num_inference_steps": 100}

    _callback_tensor_inputs: ClassVar[tuple[str, ...]] = CALLBACK_TENSORS
    _latents_per_call: ClassVar[int] = 2

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        video: Any = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float = 1.5,
        negative_prompt: str | Sequence[str] | None = None,
        num_videos_per_prompt: int = 1,
        eta: float = 0.0,
        generator: Any = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        sequential_guidance: bool | None = None,
        long_prompts: bool = False,
    ) -> TextToVideoPipelineOutput | tuple[Any, ...]:
        """Change videos. The arguments are those of `StableDiffusionInstructPix2PixPipeline`, and:

        Args:
            video: the frames of the clip to change; a list of clips has one for each prompt. They are resized, and the
                video is as long as they.
            latents: the initial noise, (batch, frames, channels, height / 8, width / 8).

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        if values["video"] is None:
            raise ValueError("InstructPix2Pix changes a clip, and none was given; pass its frames as video.")
        check_image_scale(values["image_guidance_scale"])
        clips = read_clips(self.rules, values["video"], values)
        request = self.check_call(values, num_frames=clips.shape[2])
        check_count("clips", clips, request.num_prompts)
        return request.with_options(clips=clips)

    def latent_shape(self, request: Request) -> tuple[int, ...]:
        """Batch, frames, channels, height and width of the latents."""
        batch, *rest = super().latent_shape(request)
        return (batch, request.size.num_frames, *rest)

    def encode(self, request: Request, report: Report) -> Instructions:
        """The instructions, and the latents of the clips, one row for each frame."""
        latents = encode_pictures(self.vae, request["clips"].movedim(2, 1).flatten(0, 1))
        clips = latents.unflatten(0, (-1, request.size.num_frames)).movedim(1, 2)
        prompts = self.encode_prompts(request, report).repeated(request.size.num_frames)
        return Instructions(prompts, rows_of_frames(request, clips).to(execution_device(self.unet)))

    def steps(self, request: Request, conditions: Instructions) -> Iterator[Step]:
        """Yield the latents of all frames after every step."""
        run = self.start(request)
        latents = self.initial_noise(request, run).flatten(0, 1)
        unet = AcrossFrames(self.unet, request.size.num_frames)
        yield from change(unet, request_of_rows(request, len(latents)), conditions, latents, run)
