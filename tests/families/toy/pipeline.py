"""The toy's recipe: text to video, with one network for the noisy half of the steps and another for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.assembly import Pipeline
from filmstrip.checks import known
from filmstrip.generation.arguments import Embedded, Lasting, Prompted, Repeated, Sampled, Sized, call
from filmstrip.generation.events import Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.guidance import Guidance, away_from_negatives
from filmstrip.generation.output import VideoOutput
from filmstrip.generation.prompts import Prompts, encode_prompts, encode_text, encoded_prompts
from filmstrip.generation.request import Request, check_steps, prompted
from filmstrip.generation.resolve import Rules, resolve
from filmstrip.generation.session import Session
from filmstrip.memory.coding import Coding
from filmstrip.memory.residency import execution_device
from filmstrip.randomness import draw_noise
from filmstrip.records import record

WINDOW = 24  # tokens of a prompt
HALFWAY = 500


@record("toy arguments")
@dataclass(frozen=True, eq=False)
class ToyArguments(Embedded, Repeated, Sampled, Lasting, Sized, Prompted):
    """What text to video takes."""


@record("toy request")
@dataclass(frozen=True, eq=False, kw_only=True)
class ToyRequest(Request[ToyArguments]):
    """What a run is to do."""


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

    __call__ = call(ToyArguments, VideoOutput, "Generate videos.")

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

    def check(self, arguments: ToyArguments) -> ToyRequest:
        """The request that a call's completed arguments make."""
        height, width, num_frames = map(known, (arguments.height, arguments.width, arguments.num_frames))
        rate = self.defaults["frame_rate"]
        size = resolve(self.rules, height=height, width=width, num_frames=num_frames, frame_rate=rate)
        check_steps(arguments.num_inference_steps, None, self.defaults["num_inference_steps"])
        request = prompted(ToyRequest, arguments, size, self._callback_tensor_inputs)
        shape, given = self.latent_shape(request), arguments.latents
        if given is not None and tuple(given.shape) != shape:
            raise ValueError(f"latents must have the shape {shape} for this size, got {tuple(given.shape)}.")
        return request

    def latent_shape(self, request: ToyRequest) -> tuple[int, ...]:
        """Batch, channels, frames, height and width of the latents."""
        return (request.num_videos, self.vae.config.latent_channels, *request.size.latent_size)

    def encode(self, session: Session[ToyRequest]) -> Prompts:
        """The prompts of a request."""
        return encoded_prompts(session, lambda *given: encode_prompts(WINDOW, self._encode_texts, *given))

    def _encode_texts(self, texts: Sequence[str], max_length: int) -> Prompts:
        encoded = encode_text(self.tokenizer, self.text_encoder, texts, max_length, masks_encoder=False)
        return replace(encoded, prompt_attention_mask=None)

    def steps(self, session: Session[ToyRequest], prompts: Prompts) -> Iterator[Step]:
        """Yield the latents after every step."""
        arguments, device = session.request.arguments, execution_device(self.transformer)
        run = self.scheduler.start(num_inference_steps=arguments.num_steps)
        latents = arguments.latents
        if latents is None:
            latents = draw_noise(self.latent_shape(session.request), session.generator, device)
        latents = latents.to(device, torch.float32) * run.init_noise_sigma

        def predict(latents: Tensor, timestep: float, given: Prompts) -> Tensor:
            name = "transformer" if timestep >= HALFWAY else "transformer_2"
            network, embeds = self.components[name], given.prompt_embeds
            times = latents.new_full((len(latents),), timestep)
            predicted: Tensor = network(latents.to(network.dtype), times, embeds.to(device, network.dtype)).float()
            return check_finite(predicted, name, f"timestep {timestep}")

        split, in_turn = away_from_negatives(arguments), arguments.sequential_guidance
        guidance = Guidance(prompts, split, lambda given: given, arguments.guidance, in_turn=in_turn)
        yield from session.denoise(predict, latents, run, guidance)

    def finished_latents(self, session: Session[ToyRequest], latents: Tensor) -> Tensor:
        """Latents as the call takes them, (batch, channels, frames, height, width)."""
        return latents

    def decode(
        self, session: Session[ToyRequest], vae: Any, latents: Tensor, coding: Coding | None
    ) -> Iterator[Tensor]:
        """Yield the video frame by frame."""
        latents = (latents / vae.config.scaling_factor).to(execution_device(vae), vae.dtype)
        for frames in latents.unbind(2):
            yield torch.cat(list(vae.decode_stream(frames, coding=coding))).unsqueeze(2)
