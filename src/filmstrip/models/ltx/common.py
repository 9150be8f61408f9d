"""What the pipelines of LTX-Video share: components, defaults, prompts, schedule and decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from filmstrip.generation import Pipeline
from filmstrip.generation.finite import check_finite
from filmstrip.generation.guidance import PromptGuidance
from filmstrip.generation.packing import denormalize_latents, normalize_latents, unpack_latents
from filmstrip.generation.prompts import Prompts, encode_prompts, encode_text
from filmstrip.generation.request import EMBEDS, Request, check_prompts, check_share, check_steps, make_request
from filmstrip.generation.resolving import Rules, resolve
from filmstrip.generation.running import Report
from filmstrip.memory.residency import execution_device
from filmstrip.nn.noise import draw_noise
from filmstrip.nn.outputs import DiagonalGaussian
from filmstrip.schedulers import Run, calculate_shift
from filmstrip.schedulers.schedule import falling_levels


class LTXVideoPipeline(Pipeline):
    """Components of LTX-Video, and the parts of its recipes that do not differ."""

    family_defaults: ClassVar[dict[str, Any]] = {
        "height": 512,
        "width": 704,
        "num_frames": 161,
        "frame_rate": 25,
        "num_inference_steps": 50,
        "guidance_scale": 3.0,
        "max_sequence_length": 128,
    }
    _callback_tensor_inputs: ClassVar[tuple[str, ...]] = ("latents", "prompt_embeds", "negative_prompt_embeds")
    masks_text_encoder: ClassVar[bool] = False
    """Whether padding is hidden from the text encoder too, as this pipeline was published."""

    def __init__(self, scheduler: Any, vae: Any, text_encoder: Any, tokenizer: Any, transformer: Any) -> None:
        super().__init__(
            scheduler=scheduler, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, transformer=transformer
        )

    @property
    def rules(self) -> Rules:
        """The sizes and lengths that these components can make."""
        ratio, patch = self.vae.spatial_compression_ratio, self.transformer.config.patch_size
        frames = self.vae.temporal_compression_ratio * self.transformer.config.patch_size_t
        return Rules(
            title="LTX-Video",
            size_multiple=ratio * patch,
            size_reason=f"VAE {ratio} x patch {patch}",
            spatial_ratio=ratio,
            temporal_ratio=frames,
            frame_stride=frames,
        )

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        size = resolve(self.rules, **{name: values[name] for name in ("height", "width", "num_frames", "frame_rate")})
        timesteps = falling_levels("timesteps", values["timesteps"], len(self.scheduler))
        check_steps(values["num_inference_steps"], timesteps, self.defaults["num_inference_steps"])
        check_share("guidance_rescale", values["guidance_rescale"])
        request = make_request(values, size, self._callback_tensor_inputs)
        for name in ("decode_timestep", "decode_noise_scale"):
            if values[name] and not self.vae.config.timestep_conditioning:
                raise ValueError(f"{name} has no effect: this checkpoint's decoder takes no timestep; drop it.")
            values[name] = per_video(name, values[name], request.num_prompts, request.num_videos_per_prompt)
        return request

    # ---- prompts -------------------------------------------------------------------------------------------------

    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        do_classifier_free_guidance: bool = True,
        num_videos_per_prompt: int = 1,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        max_sequence_length: int | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor | None, ...]:
        """Embeddings and mask of prompts, then those of negative prompts: what a call takes in place of texts.

        Arguments that are None mean what they mean in a call.

        Args:
            prompt_embeds, prompt_attention_mask: an earlier result, to be passed on in place of `prompt`.
            negative_prompt_embeds, negative_prompt_attention_mask: the same for `negative_prompt`.
            device, dtype: where and as what the embeddings are wanted; as the text encoder gives them if None.
        """
        embeds = {
            "prompt_embeds": prompt_embeds,
            "prompt_attention_mask": prompt_attention_mask,
            "negative_prompt_embeds": negative_prompt_embeds,
            "negative_prompt_attention_mask": negative_prompt_attention_mask,
        }
        length = max_sequence_length or self.defaults["max_sequence_length"]
        texts, negatives, _ = check_prompts(prompt, negative_prompt, embeds, is_guided=do_classifier_free_guidance)
        with torch.no_grad():
            encoded = encode_prompts(self._encode_texts, texts, negatives, embeds, length)
        encoded = encoded.repeated(num_videos_per_prompt)
        masks = (encoded.prompt_attention_mask, encoded.negative_prompt_attention_mask)
        both = (encoded.prompt_embeds, encoded.negative_prompt_embeds)
        prompt_embeds, negative_prompt_embeds = (None if one is None else one.to(device, dtype) for one in both)
        prompt_attention_mask, negative_prompt_attention_mask = (None if m is None else m.to(device) for m in masks)
        return prompt_embeds, prompt_attention_mask, negative_prompt_embeds, negative_prompt_attention_mask

    def _encode_texts(self, texts: Sequence[str], max_length: int) -> Prompts:
        masked = self.masks_text_encoder
        return encode_text(self.tokenizer, self.text_encoder, texts, max_length, masks_encoder=masked)

    def encode_prompts(self, request: Request, report: Report) -> Prompts:
        """The prompts of a request, one row for each video."""
        is_guided = request["guidance_scale"] > 1
        given = {name: request[name] for name in EMBEDS if is_guided or not name.startswith("negative")}
        length = request["max_sequence_length"]
        encoded = encode_prompts(self._encode_texts, request.prompts, request.negative_prompts, given, length)
        report.cut_off = encoded.cut_off
        for embeds in (encoded.prompt_embeds, encoded.negative_prompt_embeds):
            if embeds is not None:
                check_finite(embeds, "text_encoder")
        return encoded.repeated(request.num_videos_per_prompt)

    # ---- denoising -----------------------------------------------------------------------------------------------

    def start(self, request: Request) -> Run:
        """The run's own schedule: evenly falling noise levels, shifted by the number of tokens where that is set."""
        if request["timesteps"] is not None:
            return self.scheduler.start(timesteps=request["timesteps"])
        steps, config = request["num_inference_steps"], self.scheduler.config
        mu = calculate_shift(
            request.size.num_tokens,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        return self.scheduler.start(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)

    def latent_shape(self, request: Request) -> tuple[int, ...]:
        """Batch, channels, frames, height and width of the latents."""
        config = self.transformer.config
        channels = config.in_channels // (config.patch_size_t * config.patch_size**2)
        return (request.num_videos, channels, *request.size.latent_size)

    def check_latents(self, latents: Tensor, request: Request, *, packed: bool = True) -> None:
        """See that latents have the shape that a request asks for, as a grid or, if `packed`, as tokens."""
        shapes = [self.latent_shape(request)]
        if packed:
            patch, patch_t = self.patches
            num_tokens = request.size.num_tokens // (patch_t * patch**2)
            shapes.append((request.num_videos, num_tokens, self.transformer.config.in_channels))
        if tuple(latents.shape) not in shapes:
            allowed = " or ".join(map(str, shapes))
            raise ValueError(
                f"latents must have the shape {allowed} for this size and length, got {tuple(latents.shape)}."
            )

    @property
    def patches(self) -> tuple[int, int]:
        """Latents to one token: along height and width, and along time."""
        return self.transformer.config.patch_size, self.transformer.config.patch_size_t

    def rotary_table(self, request: Request) -> Tensor:
        """Rotations of the whole grid's tokens; one for the whole run."""
        ratio = self.vae.spatial_compression_ratio
        scale = (self.vae.temporal_compression_ratio / request.size.frame_rate, ratio, ratio)
        grid = self.transformer.grid_coordinates(request.size.latent_size, scale, execution_device(self.transformer))
        return self.transformer.rotary(grid)

    def encode_video(self, video: Tensor, generator: Any = None) -> Tensor:
        """Normalised latents, drawn from the posterior of pixels, in float32.

        Args:
            video: (batch, 3, frames, height, width) in [-1, 1]; a picture is one frame.
            generator: one, or a list with one for each video.
        """
        posterior: DiagonalGaussian = self.vae.encode(video.to(execution_device(self.vae), self.vae.dtype)).latent_dist
        check_finite(posterior.mean, "vae", "encoding")
        latents = posterior.sample(generator).float()
        return normalize_latents(latents, self.vae.latents_mean, self.vae.latents_std)

    # ---- decoding ------------------------------------------------------------------------------------------------

    def finished_latents(self, request: Request, latents: Tensor) -> Tensor:
        """Packed latents, (batch, tokens, channels), as this pipeline takes them."""
        return latents

    def decode(self, request: Request, latents: Tensor) -> Iterator[Tensor]:
        """Yield the video in runs of frames."""
        latents = unpack_latents(latents, request.size.latent_size, *self.patches)
        yield from decode_latents(
            self.vae,
            latents,
            request.generator,
            request["decode_timestep"],
            request["decode_noise_scale"],
        )


def decode_latents(
    vae: Any, latents: Tensor, generator: Any, timestep: Sequence[float] | None, noise_scale: Sequence[float] | None
) -> Iterator[Tensor]:
    """Yield the video of normalised latents in runs of frames.

    Args:
        latents: (batch, channels, frames, height, width).
        timestep: for each video, from where a timestep-conditioned decoder finishes the denoising; 0 if None.
        noise_scale: for each video, how much noise is mixed into the latents for it; the timestep if None.
    """
    latents = denormalize_latents(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
    latents = latents.to(vae.dtype)
    temb = None
    if vae.config.timestep_conditioning:
        timestep = [0.0] * len(latents) if timestep is None else timestep
        temb = torch.tensor(timestep, device=latents.device, dtype=latents.dtype)
        scale = temb if noise_scale is None else torch.tensor(noise_scale, device=latents.device, dtype=latents.dtype)
        noise = draw_noise(latents.shape, generator, latents.device, latents.dtype)
        latents = torch.lerp(latents, noise, scale.view(-1, 1, 1, 1, 1))
    yield from vae.decode_stream(latents, temb, generator)


def per_video(name: str, value: float | Sequence[float] | None, count: int, per_prompt: int) -> list[float] | None:
    """An argument that has one value, or one for each of `count` prompts, as one for each video of the batch."""
    if value is None:
        return None
    if isinstance(value, (int, float)):
        return [float(value)] * (count * per_prompt)
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} values for {count} prompts; give one, or one for each.")
    return [float(one) for one in value for _ in range(per_prompt)]


def prompt_guidance(transformer: Any, prompts: Prompts, request: Request) -> PromptGuidance[Any]:
    """Guidance by a run's prompts, whose projection by the transformer is made once."""

    def prepare(half: Prompts) -> Any:
        embeds, mask = half.prompt_embeds, half.prompt_attention_mask
        # Without padding there is nothing to mask, and attention is faster without a mask.
        padding = None if mask is None or bool(mask.all()) else mask.to(execution_device(transformer))
        return transformer.prepare_prompt(embeds.to(execution_device(transformer), transformer.dtype), padding)

    return PromptGuidance(
        prompts,
        prepare,
        request["guidance_scale"],
        rescale=request["guidance_rescale"],
        is_sequential=request["sequential_guidance"],
    )
