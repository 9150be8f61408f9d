"""LTX-Video: image to video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from filmstrip.generation.denoising import denoise
from filmstrip.generation.events import Step
from filmstrip.generation.packing import pack_latents
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.request import Request, check_count
from filmstrip.generation.running import Report, VideoOutput, result
from filmstrip.media.pixels import preprocess_image
from filmstrip.memory.residency import execution_device
from filmstrip.models.ltx.common import LTXVideoPipeline, prompt_guidance
from filmstrip.nn.noise import draw_noise


@dataclass(frozen=True)
class ImageConditions:
    """What the video starts with, and what is said about it."""

    prompts: Prompts
    first_frame: Tensor | None  # normalised latents, (videos, channels, 1, height, width)


class LTXImageToVideoPipeline(LTXVideoPipeline):
    """Makes a video that begins with a given picture (arXiv:2501.00103, section 2.4)."""

    def __call__(
        self,
        image: Any = None,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        frame_rate: float | None = None,
        num_inference_steps: int | None = None,
        timesteps: Sequence[float] | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        num_videos_per_prompt: int = 1,
        generator: Any = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        decode_timestep: float | Sequence[float] = 0.0,
        decode_noise_scale: float | Sequence[float] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        attention_kwargs: Mapping[str, Any] | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        max_sequence_length: int | None = None,
        sequential_guidance: bool | None = None,
    ) -> VideoOutput | tuple[Any, ...]:
        """Generate videos from pictures. The arguments are those of `LTXPipeline`, and:

        Args:
            image: the first frame: a picture, an array or a tensor; a list has one for each prompt. It is resized.
            latents: in place of `image`, latents whose first frame is clean and whose others are noise,
                packed as tokens or (batch, channels, frames, height, width).

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        request = super().check(values)
        image, latents = request["image"], request["latents"]
        if (image is None) == (latents is None):
            given = "neither" if image is None else "both"
            raise ValueError(f"Image to video starts from image or from latents, {given} given; pass one of them.")
        if image is None:
            self.check_latents(latents, request)
            return request
        pixels = preprocess_image(image, request.size.height, request.size.width)
        check_count("pictures", pixels, request.num_prompts)
        return request.with_options(pixels=pixels)

    def encode(self, request: Request, report: Report) -> ImageConditions:
        """The prompts, and the latents of the first frame."""
        prompts = self.encode_prompts(request, report)
        if request["image"] is None:
            return ImageConditions(prompts, None)
        # The reference rounds the picture to the type of the prompts.
        pixels = request["pixels"].to(self.transformer.dtype)
        if len(pixels) > 1 or isinstance(request.generator, list):
            pixels = request.per_video(pixels)
        return ImageConditions(prompts, self.encode_video(pixels.unsqueeze(2), request.generator))

    def steps(self, request: Request, conditions: ImageConditions) -> Iterator[Step]:
        """Yield the latents after every step."""
        latents = self._initial_latents(request, conditions.first_frame)
        rotary = self.rotary_table(request)
        frames = request.size.latent_size[0]
        is_given = torch.zeros(1, latents.shape[1], device=latents.device)  # (1, tokens)
        is_given[:, : latents.shape[1] // frames] = 1

        def predict(latents: Tensor, timestep: float, prompt: Any) -> Tensor:
            times = (timestep * (1 - is_given)).expand(len(latents), -1)  # (batch, tokens): the given frame is clean
            tokens = latents.to(self.transformer.dtype)
            return self.transformer(tokens, prompt, times, rotary=rotary, return_dict=False)[0].float()

        guidance = prompt_guidance(self.transformer, conditions.prompts, request)
        for step in denoise(
            predict, latents, self.start(request), guidance, generator=request.generator, keeper=request.keeper
        ):
            step.latents = torch.where(is_given[..., None] > 0, step.before, step.latents)
            guidance.offer(step)
            yield step
            guidance.accept(step)

    def _initial_latents(self, request: Request, first_frame: Tensor | None) -> Tensor:
        latents = request["latents"]
        if first_frame is not None:
            latents = draw_noise(self.latent_shape(request), request.generator, execution_device(self.transformer))
            latents[:, :, :1] = first_frame.to(latents.device)
        if latents.dim() == 5:
            latents = pack_latents(latents, *self.patches)
        return latents.to(execution_device(self.transformer), torch.float32)
