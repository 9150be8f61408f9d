"""LTX-Video: text to video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from filmstrip.generation.denoising import denoise
from filmstrip.generation.events import Step
from filmstrip.generation.packing import pack_latents
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.request import Request
from filmstrip.generation.running import Report, VideoOutput, result
from filmstrip.memory.residency import execution_device
from filmstrip.models.ltx.common import LTXVideoPipeline, prompt_guidance
from filmstrip.nn.noise import draw_noise


class LTXPipeline(LTXVideoPipeline):
    """Makes a video from a text (arXiv:2501.00103)."""

    def __call__(
        self,
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
        """Generate videos. Arguments that are None take the checkpoint's or the family's default.

        Args:
            prompt: what the video shows; a list makes a batch.
            negative_prompt: what it does not show; used when `guidance_scale` is above 1.
            height, width: in pixels, multiples of what the checkpoint compresses to one latent (32).
            num_frames: exactly so many frames come out.
            frame_rate: frames a second that the motion is meant for.
            num_inference_steps: more steps, more detail, more time.
            timesteps: a falling schedule of one's own, from 1000 (noise) to 0, in place of evenly spaced steps.
            guidance_scale: how strongly to follow the prompt (arXiv:2207.12598); 1 is not at all, at half the cost.
            guidance_rescale: from 0 to 1, against overexposure (arXiv:2305.08891, section 3.4).
            num_videos_per_prompt: videos for each prompt, which differ in their noise.
            generator: source of all randomness; a list has one for each video.
            latents: the initial noise, (batch, channels, frames, height, width) or packed as tokens.
            prompt_embeds, prompt_attention_mask: from `encode_prompt`, in place of `prompt`.
            negative_prompt_embeds, negative_prompt_attention_mask: the same for `negative_prompt`.
            decode_timestep: from where, in [0, 1], a timestep-conditioned decoder finishes (0.9.1 and later).
            decode_noise_scale: noise mixed in for it; by default as much as the timestep.
            output_type: "pil", "np", "pt", "uint8" or "latent"; see `VideoOutput`.
            return_dict: whether to return a `VideoOutput` and not a tuple.
            attention_kwargs: nothing takes any yet.
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after every step; what it returns
                under a tensor's name replaces that tensor. Setting `pipeline._interrupt` ends the denoising, and
                setting `pipeline._guidance_scale` changes the guidance of the next steps.
            callback_on_step_end_tensor_inputs: the tensors it is given.
            max_sequence_length: tokens of a prompt that count.
            sequential_guidance: run the network for the prompt and against it in turn: less memory, more time; None: as
                `fit` chose, else together.

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        request = super().check(values)
        if request["latents"] is not None:
            self.check_latents(request["latents"], request)
        return request

    def encode(self, request: Request, report: Report) -> Prompts:
        """The prompts of a request."""
        return self.encode_prompts(request, report)

    def steps(self, request: Request, conditions: Prompts) -> Iterator[Step]:
        """Yield the latents after every step."""
        latents = self._initial_latents(request)
        rotary = self.rotary_table(request)

        def predict(latents: Tensor, timestep: float, prompt: Any) -> Tensor:
            times = latents.new_full((len(latents),), timestep)
            tokens = latents.to(self.transformer.dtype)
            return self.transformer(tokens, prompt, times, rotary=rotary, return_dict=False)[0].float()

        guidance = prompt_guidance(self.transformer, conditions, request)
        for step in denoise(
            predict, latents, self.start(request), guidance, generator=request.generator, keeper=request.keeper
        ):
            guidance.offer(step)
            yield step
            guidance.accept(step)

    def _initial_latents(self, request: Request) -> Tensor:
        given = request["latents"]
        if given is None:
            given = draw_noise(self.latent_shape(request), request.generator, execution_device(self.transformer))
        if given.dim() == 5:
            given = pack_latents(given, *self.patches)
        return given.to(execution_device(self.transformer), torch.float32)
