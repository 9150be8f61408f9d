"""The toy's recipe: text to video, with one network for the noisy half of the steps and another for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.generation import Pipeline
from filmstrip.generation.denoising import denoise
from filmstrip.generation.events import Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.guidance import PromptGuidance
from filmstrip.generation.prompts import Prompts, encode_prompts, encode_text
from filmstrip.generation.request import Request, check_steps, make_request
from filmstrip.generation.resolving import Rules, resolve
from filmstrip.generation.running import Report, VideoOutput, result
from filmstrip.memory.residency import execution_device
from filmstrip.nn.noise import draw_noise

WINDOW = 24  # tokens of a prompt
HALFWAY = 500


class ToyPipeline(Pipeline):
    """Makes a video from a text."""

    family_defaults: ClassVar[dict[str, Any]] = {
        "height": 32,
        "width": 48,
        "num_frames": 5,
        "frame_rate": 8,
        "num_inference_steps": 4,
        "guidance_scale": 3.0,
    }
    _callback_tensor_inputs: ClassVar[tuple[str, ...]] = ("latents", "prompt_embeds", "negative_prompt_embeds")

    def __init__(
        self, tokenizer: Any, text_encoder: Any, vae: Any, transformer: Any, transformer_2: Any, scheduler: Any
    ) -> None:
        super().__init__(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            transformer=transformer,
            transformer_2=transformer_2,
            scheduler=scheduler,
        )

    @property
    def rules(self) -> Rules:
        """The sizes and lengths that these components can make."""
        ratio = self.vae.spatial_compression_ratio
        return Rules("Toy", ratio, f"VAE {ratio}", ratio, temporal_ratio=1, frame_stride=1, frame_offsets=(0,))

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_videos_per_prompt: int = 1,
        generator: Any = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        sequential_guidance: bool | None = None,
    ) -> VideoOutput | tuple[Any, ...]:
        """Generate videos. Arguments that are None take the checkpoint's or the family's default."""
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        sizes = {name: values[name] for name in ("height", "width", "num_frames")}
        size = resolve(self.rules, **sizes, frame_rate=self.defaults["frame_rate"])
        check_steps(values["num_inference_steps"], None, self.defaults["num_inference_steps"])
        request = make_request(values, size, self._callback_tensor_inputs)
        shape, given = self.latent_shape(request), values["latents"]
        if given is not None and tuple(given.shape) != shape:
            raise ValueError(f"latents must have the shape {shape} for this size, got {tuple(given.shape)}.")
        return request

    def latent_shape(self, request: Request) -> tuple[int, ...]:
        """Batch, channels, frames, height and width of the latents."""
        return (request.num_videos, self.vae.config.latent_channels, *request.size.latent_size)

    def encode(self, request: Request, report: Report) -> Prompts:
        """The prompts of a request."""
        names = ("prompt_embeds", "negative_prompt_embeds") if request["guidance_scale"] > 1 else ("prompt_embeds",)
        given = {name: request[name] for name in names}
        encoded = encode_prompts(self._encode_texts, request.prompts, request.negative_prompts, given, WINDOW)
        report.cut_off = encoded.cut_off
        for embeds in (encoded.prompt_embeds, encoded.negative_prompt_embeds):
            if embeds is not None:
                check_finite(embeds, "text_encoder")
        return encoded.repeated(request.num_videos_per_prompt)

    def _encode_texts(self, texts: Sequence[str], max_length: int) -> Prompts:
        encoded = encode_text(self.tokenizer, self.text_encoder, texts, max_length, masks_encoder=False)
        return replace(encoded, prompt_attention_mask=None)

    def steps(self, request: Request, conditions: Prompts) -> Iterator[Step]:
        """Yield the latents after every step."""
        run = self.scheduler.start(num_inference_steps=request["num_inference_steps"])
        device, latents = execution_device(self.transformer), request["latents"]
        if latents is None:
            latents = draw_noise(self.latent_shape(request), request.generator, device)
        latents = latents.to(device, torch.float32) * run.init_noise_sigma

        def predict(latents: Tensor, timestep: float, prompt_embeds: Tensor) -> Tensor:
            name = "transformer" if timestep >= HALFWAY else "transformer_2"
            network = self.components[name]
            times = latents.new_full((len(latents),), timestep)
            predicted: Tensor = network(latents.to(network.dtype), times, prompt_embeds.to(network.dtype)).float()
            return check_finite(predicted, name, f"timestep {timestep}")

        guidance = PromptGuidance(
            conditions,
            lambda half: half.prompt_embeds.to(device),
            request["guidance_scale"],
            is_sequential=request["sequential_guidance"],
        )
        loop = denoise(predict, latents, run, guidance, generator=request.generator, keeper=request.keeper)
        for step in loop:
            guidance.offer(step)
            yield step
            guidance.accept(step)

    def finished_latents(self, request: Request, latents: Tensor) -> Tensor:
        """Latents as the call takes them, (batch, channels, frames, height, width)."""
        return latents

    def decode(self, request: Request, latents: Tensor) -> Iterator[Tensor]:
        """Yield the video frame by frame."""
        latents = (latents / self.vae.config.scaling_factor).to(execution_device(self.vae), self.vae.dtype)
        for frames in latents.unbind(2):
            yield torch.cat(list(self.vae.decode_stream(frames))).unsqueeze(2)
