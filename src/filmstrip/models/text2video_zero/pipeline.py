"""Text2Video-Zero: videos from an image model, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from filmstrip.generation.events import Step
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.request import Request
from filmstrip.generation.running import Report, result
from filmstrip.models.stable_diffusion.common import StableDiffusionBase
from filmstrip.models.text2video_zero.recipe import (
    TextToVideoPipelineOutput,
    VideosOfPictures,
    check_arguments,
    checked_recipe,
    video_steps,
)


class TextToVideoZeroPipeline(VideosOfPictures, StableDiffusionBase):
    """Makes a video from a text with an image model: its first frame, moved, and denoised again (arXiv:2303.13439)."""

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        video_length: int = 8,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        num_videos_per_prompt: int = 1,
        eta: float = 0.0,
        generator: Any = None,
        latents: Tensor | None = None,
        motion_field_strength_x: float = 12,
        motion_field_strength_y: float = 12,
        output_type: str = "np",
        return_dict: bool = True,
        callback: Callable[[int, int, Tensor], None] | None = None,
        callback_steps: int = 1,
        t0: int | None = None,
        t1: int | None = None,
        frame_ids: Sequence[int] | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        cross_attention_kwargs: Any = None,
        sequential_guidance: bool | None = None,
        long_prompts: bool = False,
    ) -> TextToVideoPipelineOutput | tuple[Any, ...]:
        """Generate videos. The arguments are those of `StableDiffusionPipeline`, and:

        Args:
            video_length: frames of a video.
            num_videos_per_prompt: videos for each prompt, which differ in their noise.
            latents: the initial noise of the first frame, (batch, channels, height / 8, width / 8).
            motion_field_strength_x, motion_field_strength_y: how far the picture moves from one frame to the next, in
                512ths of its width and height.
            output_type: "np", for which "tensor" is another name, "pil", "pt", "uint8" or "latent".
            callback, callback_steps: called as (step, timestep, latents) at every so many steps.
            t0, t1: steps before the end, t0 < t1: at t1 later frames begin; they are the first frame as it is at t0,
                moved and made noisy again. By default 44 and 47 of 50 steps, and in proportion for others.
            frame_ids: the places of the frames in a longer video that is made in parts, each of which begins with the
                first frame: [0, 8, 9, 10], for example. A seed must then be given.

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        values, frames = check_arguments(values)
        no_embeds = {"prompt_embeds": None, "negative_prompt_embeds": None}
        request = self.check_call({**values, **no_embeds}, num_frames=frames)
        return checked_recipe(request, self.start(request), self.scheduler)

    def encode(self, request: Request, report: Report) -> Prompts:
        """The prompts of a request."""
        return self.encode_prompts(request, report)

    def steps(self, request: Request, conditions: Prompts) -> Iterator[Step]:
        """Yield the latents after every step: first those of the first frames, then those of all frames."""
        return video_steps(self, request, conditions)
