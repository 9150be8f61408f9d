"""What the pipelines of LTX-Video share: components, defaults, prompts, schedule and decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from filmstrip.assembly import Pipeline
from filmstrip.checks import known, one_each
from filmstrip.generation.arguments import (
    Arguments,
    Embedded,
    Lasting,
    Noised,
    Prompted,
    Repeated,
    Rescaled,
    Sized,
    Texts,
    argument,
)
from filmstrip.generation.beginning import initial_latents, posterior_of
from filmstrip.generation.guidance import Guidance, Split, away_from_negatives
from filmstrip.generation.packing import denormalize_latents, normalize_latents, pack_latents, unpack_latents
from filmstrip.generation.prompts import Prompts, embeddings, encode_prompts, encode_text, encoded_prompts
from filmstrip.generation.request import Request, asked, check_shape, check_steps, prompted
from filmstrip.generation.resolve import Rules
from filmstrip.generation.session import Session
from filmstrip.memory.coding import Coding
from filmstrip.memory.residency import execution_device
from filmstrip.models.ltx.autoencoder import AutoencoderKLLTXVideo
from filmstrip.models.ltx.transformer import LTXVideoTransformer3DModel
from filmstrip.randomness import draw_noise
from filmstrip.records import record
from filmstrip.schedulers import Run
from filmstrip.schedulers.flows import mu_for, started
from filmstrip.schedulers.schedule import falling_levels


@dataclass(frozen=True, eq=False, kw_only=True)
class Decoded(Arguments):
    """What the decoders of 0.9.1 and later are told."""

    decode_timestep: float | Sequence[float] | None = argument(
        "from where, in [0, 1], a timestep-conditioned decoder finishes (0.9.1 and later); a list has one a prompt; "
        "0 where the checkpoint says nothing."
    )
    decode_noise_scale: float | Sequence[float] | None = argument("noise mixed in for it; by default as much as that.")


@dataclass(frozen=True, eq=False)
class Paced(Lasting):
    """A length, and how fast it passes."""

    frame_rate: float | None = argument("frames a second that the motion is meant for.", role="rate")


@record("ltx arguments")
@dataclass(frozen=True, eq=False)
class LTXArguments(Rescaled, Decoded, Embedded, Repeated, Noised, Paced, Sized, Prompted):
    """What all pipelines of LTX-Video that denoise take."""

    negative_prompt: Texts | None = argument("what it does not show; used with guidance.", only_guided=True)
    _: KW_ONLY
    latents: Tensor | None = argument(
        "the initial noise, (batch, channels, frames, height, width) or packed as tokens."
    )
    timesteps: Sequence[float] | None = argument(
        "a falling schedule of one's own, from 1000 (noise) to 0, in place of evenly spaced steps.",
        instead="num_inference_steps",
    )
    prompt_attention_mask: Tensor | None = argument("which tokens of `prompt_embeds` are real; needed beside it.")
    negative_prompt_attention_mask: Tensor | None = argument("the same for `negative_prompt_embeds`.")
    attention_kwargs: Mapping[str, Any] | None = argument("nothing takes any yet.")
    max_sequence_length: int | None = argument("tokens of a prompt that count.", range="tokens")


@record("ltx decoder")
@dataclass(frozen=True)
class ToldToDecoder:
    """What a timestep-conditioned decoder is told for each video; see `Decoded`."""

    timestep: list[float] | None
    noise_scale: list[float] | None


L = TypeVar("L", bound=Arguments, covariant=True)


@record("ltx request")
@dataclass(frozen=True, eq=False, kw_only=True)
class LTXRequest(Request[L]):
    """What a run of LTX-Video is to do."""

    decoder: ToldToDecoder = ToldToDecoder(None, None)


RequestType = TypeVar("RequestType", bound=LTXRequest[Any])


class LTXVideoPipeline(Pipeline):
    """Components of LTX-Video, and the parts of its recipes that do not differ."""

    vae: AutoencoderKLLTXVideo
    transformer: LTXVideoTransformer3DModel
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
    follows_flow: ClassVar[bool | None] = True
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

    def checked(self, kind: Callable[..., RequestType], arguments: LTXArguments, **found: Any) -> RequestType:
        """The request that a call's completed arguments make, of that class."""
        size = asked(self.rules, arguments, known(arguments.num_frames), known(arguments.frame_rate))
        timesteps = falling_levels("timesteps", arguments.timesteps, self.scheduler.config.num_train_timesteps)
        check_steps(arguments.num_inference_steps, timesteps, self.defaults["num_inference_steps"])
        if arguments.attention_kwargs:
            raise ValueError("attention_kwargs has no effect without adapters; drop it.")
        request = prompted(kind, arguments, size, self._callback_tensor_inputs, **found)
        self.start(request)  # says what is wrong with a schedule
        return replace(request, decoder=told_to_decoder(self.vae, arguments, request))

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
        encode = partial(encode_prompts, length, self._encode_texts)
        rows: dict[str, Any] = {"is_guided": do_classifier_free_guidance, "times": num_videos_per_prompt}
        return embeddings(encode, prompt, negative_prompt, embeds, **rows, device=device, dtype=dtype)

    def _encode_texts(self, texts: Sequence[str], max_length: int) -> Prompts:
        masked = self.masks_text_encoder
        return encode_text(self.tokenizer, self.text_encoder, texts, max_length, masks_encoder=masked)

    def encode_prompts(self, session: Session[LTXRequest[Any]]) -> Prompts:
        """The prompts of a request, one row for each video."""
        length = known(session.request.arguments.max_sequence_length)
        return encoded_prompts(session, partial(encode_prompts, length, self._encode_texts))

    # ---- denoising -----------------------------------------------------------------------------------------------

    def start(self, request: LTXRequest[Any]) -> Run:
        """The run's own schedule: evenly falling noise levels, shifted by the number of tokens where that is set."""
        steps, timesteps = request.arguments.num_steps, request.arguments.timesteps
        if timesteps is not None:
            return started(self.scheduler, timesteps=timesteps)
        mu = mu_for(self.scheduler, request.size.num_tokens)
        return started(self.scheduler, sigmas=np.linspace(1.0, 1 / steps, steps), **({} if mu is None else {"mu": mu}))

    def latent_shape(self, request: Request[Any]) -> tuple[int, ...]:
        """Batch, channels, frames, height and width of the latents."""
        config = self.transformer.config
        channels = config.in_channels // (config.patch_size_t * config.patch_size**2)
        return (request.num_videos, channels, *request.size.latent_size)

    def check_latents(self, latents: Tensor, request: Request[Any], *, packed: bool = True) -> None:
        """See that latents have the shape that a request asks for, as a grid or, if `packed`, as tokens."""
        shapes = [self.latent_shape(request)]
        if packed:
            patch, patch_t = self.patches
            num_tokens = request.size.num_tokens // (patch_t * patch**2)
            shapes.append((request.num_videos, num_tokens, self.transformer.config.in_channels))
        check_shape("latents", latents, *shapes)

    @property
    def patches(self) -> tuple[int, int]:
        """Latents to one token: along height and width, and along time."""
        return self.transformer.config.patch_size, self.transformer.config.patch_size_t

    def rotary_table(self, request: Request[Any]) -> Tensor:
        """Rotations of the whole grid's tokens; one for the whole run."""
        ratio = self.vae.spatial_compression_ratio
        scale = (self.vae.temporal_compression_ratio / request.size.frame_rate, ratio, ratio)
        grid = self.transformer.grid_coordinates(request.size.latent_size, scale, execution_device(self.transformer))
        return self.transformer.rotary(grid)

    def initial_latents(self, session: Session[Any], first_frame: Tensor | None = None) -> Tensor:
        """Packed latents that a run starts from: the call's, or noise, after a first frame if one is given.

        Args:
            first_frame: normalised latents, (videos, channels, 1, height, width).
        """
        device = execution_device(self.transformer)
        latents = initial_latents(session, self.latent_shape(session.request), device, frame_dim=2)
        if first_frame is not None:
            latents[:, :, :1] = first_frame.to(device)
        return pack_latents(latents, *self.patches) if latents.dim() == 5 else latents

    def encode_video(self, video: Tensor, session: Session[Any]) -> Tensor:
        """Normalised latents, drawn from the posterior of pixels, in float32.

        Args:
            video: (batch, 3, frames, height, width) in [-1, 1]; a picture is one frame.
        """
        latents = posterior_of(self.vae, video, session.coding).sample(session.generator).float()
        return normalize_latents(latents, self.vae.latents_mean, self.vae.latents_std)

    # ---- decoding ------------------------------------------------------------------------------------------------

    def decode(
        self,
        session: Session[LTXRequest[Any]],
        vae: AutoencoderKLLTXVideo,
        latents: Tensor,
        coding: Coding | None,
    ) -> Iterator[Tensor]:
        """Yield the video in runs of frames."""
        latents = unpack_latents(latents, session.request.size.latent_size, *self.patches)
        yield from decode_latents(session, vae, latents, session.request.decoder, coding)


def told_to_decoder(vae: AutoencoderKLLTXVideo, arguments: Decoded, request: Request[Any]) -> ToldToDecoder:
    """The arguments about decoding, as one value for each video."""
    given = {name: getattr(arguments, name) for name in ("decode_timestep", "decode_noise_scale")}
    for name, value in given.items():
        if value and not vae.config.timestep_conditioning:
            raise ValueError(f"{name} has no effect: this checkpoint's decoder takes no timestep; drop it.")
    counts = request.num_prompts, request.num_videos_per_prompt
    return ToldToDecoder(*(per_video(name, value, *counts) for name, value in given.items()))


def decode_latents(
    session: Session[Any], vae: AutoencoderKLLTXVideo, latents: Tensor, told: ToldToDecoder, coding: Coding | None
) -> Iterator[Tensor]:
    """Yield the video of normalised latents, (batch, channels, frames, height, width), in runs of frames."""
    latents = denormalize_latents(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
    latents = latents.to(vae.dtype)
    temb = None
    if vae.config.timestep_conditioning:
        timestep = told.timestep or [0.0] * len(latents)
        temb = torch.tensor(timestep, device=latents.device, dtype=latents.dtype)
        scale = temb if told.noise_scale is None else temb.new_tensor(told.noise_scale)
        noise = draw_noise(latents.shape, session.generator, latents.device, latents.dtype)
        latents = torch.lerp(latents, noise, scale.view(-1, 1, 1, 1, 1))
    yield from vae.decode_stream(latents, temb, session.generator, coding=coding)


def per_video(name: str, value: float | Sequence[float] | None, count: int, per_prompt: int) -> list[float] | None:
    """An argument that has one value, or one for each of `count` prompts, as one for each video of the batch."""
    if value is None:
        return None
    return [float(one) for one in one_each(name, value, count, "prompts") for _ in range(per_prompt)]


def prompt_guidance(
    transformer: LTXVideoTransformer3DModel, prompts: Prompts, arguments: LTXArguments
) -> Guidance[Prompts, Any]:
    """Guidance by a run's prompts, whose projection by the transformer is made once."""

    def prepare(prompts: Prompts) -> Any:
        embeds, mask = prompts.prompt_embeds, prompts.prompt_attention_mask
        # Without padding there is nothing to mask, and attention is faster without a mask.
        padding = None if mask is None or bool(mask.all()) else mask.to(execution_device(transformer))
        return transformer.prepare_prompt(embeds.to(execution_device(transformer), transformer.dtype), padding)

    split: Split[Prompts] = away_from_negatives(arguments)
    return Guidance(prompts, split, prepare, arguments.guidance, in_turn=arguments.sequential_guidance)
