"""What the pipelines of CogVideoX share: components, defaults, prompts, sampling and decoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from filmstrip.assembly import Pipeline
from filmstrip.checks import known
from filmstrip.generation.arguments import Embedded, Noised, Prompted, Repeated, Sized, Texts, argument
from filmstrip.generation.beginning import initial_latents, posterior_of
from filmstrip.generation.events import Step
from filmstrip.generation.guidance import Guidance, Split, away_from_negatives
from filmstrip.generation.prompts import Prompts, embeddings, encode_prompts, encode_text, encoded_prompts
from filmstrip.generation.request import Request, asked, check_shape, check_steps, prompted
from filmstrip.generation.resolve import Resolved, Rules
from filmstrip.generation.session import Session
from filmstrip.json_files import shown
from filmstrip.memory.coding import Coding
from filmstrip.memory.residency import execution_device
from filmstrip.models.cogvideox.autoencoder import AutoencoderKLCogVideoX
from filmstrip.models.cogvideox.transformer import CogVideoXTransformer3DModel
from filmstrip.records import record
from filmstrip.schedulers import Run
from filmstrip.schedulers.flows import started

# The configurations of 1.5 give the largest grid of positions in place of a size; its authors publish this one.
LARGEST_GRID, SIZE_OF_1_5 = (300, 300), (768, 1360)


@dataclass(frozen=True, eq=False)
class CogVideoXArguments(Embedded, Repeated, Noised, Sized, Prompted):
    """What all pipelines of CogVideoX take."""

    negative_prompt: Texts | None = argument("what it does not show; used with guidance.", only_guided=True)
    _: KW_ONLY
    latents: Tensor | None = argument("the initial noise, (batch, latent frames, channels, height / 8, width / 8).")
    timesteps: Sequence[int] | None = argument("a falling schedule of one's own, whole numbers from 999 (noise) to 0.")
    use_dynamic_cfg: bool | str = argument(
        'let the guidance rise from 1 to 1 + `guidance_scale` along a cosine of the share of steps done; "timestep"'
        " uses the timestep in its place, as Diffusers does.",
        False,
        only_guided=True,
    )
    eta: float = argument(
        "with a DDIM scheduler, how much fresh noise each step adds, from 0 to 1 (arXiv:2010.02502).", 0.0
    )
    attention_kwargs: Mapping[str, Any] | None = argument("nothing takes any yet.")
    max_sequence_length: int | None = argument(
        "tokens that a prompt is cut or padded to; networks are trained for one number.", range="tokens"
    )


C = TypeVar("C", bound=CogVideoXArguments, covariant=True)


@record("cogvideox request")
@dataclass(frozen=True, eq=False, kw_only=True)
class CogVideoXRequest(Request[C]):
    """What a run of CogVideoX is to do."""

    pixels: Tensor | None = None  # of the picture or the clips that it is made from, (rows, 3, ..., height, width)


@dataclass(frozen=True)
class Conditions(Prompts):
    """What a run is conditioned on: its prompts, and latents of a picture or a clip that the network sees beside."""

    beside: Tensor | None = None  # (videos, frames, channels, height, width)


CArguments = TypeVar("CArguments", bound=CogVideoXArguments)
AnySession = Session[CogVideoXRequest[CogVideoXArguments]]


class CogVideoXVideoPipeline(Pipeline):
    """Components of CogVideoX (arXiv:2408.06072), and the parts of its recipes that do not differ."""

    vae: AutoencoderKLCogVideoX
    transformer: CogVideoXTransformer3DModel
    family_defaults: ClassVar[dict[str, Any]] = {
        "num_inference_steps": 50,
        "guidance_scale": 6.0,
        "max_sequence_length": 226,
    }
    _callback_tensor_inputs: ClassVar[tuple[str, ...]] = ("latents", "prompt_embeds", "negative_prompt_embeds")
    follows_flow: ClassVar[bool | None] = False
    latents_per_channel: ClassVar[int] = 1
    """How many times the latents' channels the network takes: once noisy, and once more as a condition."""
    condition_word: ClassVar[str] = ""
    """What that condition is."""

    def __init__(self, tokenizer: Any, text_encoder: Any, vae: Any, transformer: Any, scheduler: Any) -> None:
        super().__init__(
            tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
        )

    def usual_defaults(self) -> dict[str, Any]:
        """The family's defaults, and the size and length that the transformer was trained for."""
        if self.transformer is None or self.vae is None:  # components that prompts are encoded without
            return dict(self.family_defaults)
        config, ratio = self.transformer.config, self.vae.spatial_compression_ratio
        height, width = config.sample_height * ratio, config.sample_width * ratio
        is_1_5 = config.patch_size_t is not None
        if is_1_5 and (config.sample_height, config.sample_width) == LARGEST_GRID:
            height, width = SIZE_OF_1_5
        sizes = {"height": height, "width": width, "num_frames": config.sample_frames}
        return {**sizes, "frame_rate": 16 if is_1_5 else 8, **self.family_defaults}

    @property
    def vae_scale_factor_spatial(self) -> int:
        """Pixels to one latent, along height and along width."""
        return int(self.vae.spatial_compression_ratio)

    @property
    def vae_scale_factor_temporal(self) -> int:
        """Frames to one latent."""
        return int(self.vae.temporal_compression_ratio)

    @property
    def rules(self) -> Rules:
        """The sizes and lengths that these components can make."""
        ratio, ratio_t = self.vae.spatial_compression_ratio, self.vae.temporal_compression_ratio
        patch, patch_t = self.transformer.config.patch_size, self.transformer.config.patch_size_t or 1
        return Rules(
            title="CogVideoX",
            size_multiple=ratio * patch,
            size_reason=f"VAE {ratio} x patch {patch}",
            spatial_ratio=ratio,
            temporal_ratio=ratio_t,
            # The autoencoder makes latent frames in pairs; if their number is odd, the first stands for one frame.
            frame_stride=2 * ratio_t,
            frame_offsets=(0, 1),
            latent_multiple=patch_t,
            latents_per_token=patch_t * patch**2,
        )

    def fuse_qkv_projections(self) -> None:
        """Fuse the transformer's projections; see its `fuse_qkv_projections`."""
        self.transformer.fuse_qkv_projections()

    def unfuse_qkv_projections(self) -> None:
        """Take the transformer's projections apart again."""
        self.transformer.unfuse_qkv_projections()

    # ---- what is asked for ---------------------------------------------------------------------------------------

    def checked(self, arguments: CArguments, num_frames: int, **found: Any) -> CogVideoXRequest[CArguments]:
        """The request that a call's completed arguments make, for so many frames."""
        size = asked(self.rules, arguments, num_frames, self.defaults["frame_rate"])
        self.check_components()
        self._check_positions(size)
        check_steps(arguments.num_inference_steps, arguments.timesteps, self.defaults["num_inference_steps"])
        if arguments.use_dynamic_cfg not in (False, True, "timestep"):
            raise ValueError(
                f"use_dynamic_cfg must be True, False or 'timestep', got {shown(arguments.use_dynamic_cfg)}."
            )
        if arguments.attention_kwargs:
            raise ValueError("attention_kwargs has no effect without adapters; drop it.")
        request = prompted(CogVideoXRequest[CArguments], arguments, size, self._callback_tensor_inputs, **found)
        self.start(request)  # says what is wrong with a schedule
        if arguments.latents is not None:
            self.check_latents("latents", arguments.latents, request)
        return request

    def check_latents(self, name: str, latents: Tensor, request: Request[Any], *, channels_first: bool = False) -> None:
        """See that latents have the shape that a request asks for.

        Args:
            channels_first: channels come before frames, and the rows may be one for all or one for each prompt.
        """
        videos, frames, channels, height, width = self.latent_shape(request)
        shapes = [(videos, frames, channels, height, width)]
        if channels_first:
            shapes = [(rows, channels, frames, height, width) for rows in sorted({1, request.num_prompts})]
        check_shape(name, latents, *shapes)

    def num_frames_of(self, num_latents: int) -> int:
        """The frames that so many latent frames stand for."""
        pair, odd = self.rules.frame_stride, num_latents % 2
        return num_latents // 2 * pair + odd

    def check_components(self) -> None:
        """See that the transformer takes what this pipeline gives it."""
        takes, has = self.transformer.config.in_channels, self.vae.config.latent_channels
        if takes == has * self.latents_per_channel:
            return
        wants = self.condition_word or "no condition"
        given = f"{takes} channels where this pipeline gives {has * self.latents_per_channel} ({wants})"
        raise ValueError(f"{self.name_or_path or 'The checkpoint'} is made for another task: it takes {given}.")

    def _check_positions(self, size: Resolved) -> None:
        config, ratio = self.transformer.config, self.vae.spatial_compression_ratio
        height, width = config.sample_height * ratio, config.sample_width * ratio
        if config.use_learned_positional_embeddings and (size.height, size.width) != (height, width):
            raise ValueError(
                f"This checkpoint has learned positions for {width}x{height} only, got {size.width}x{size.height}."
            )

    # ---- prompts -------------------------------------------------------------------------------------------------

    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        do_classifier_free_guidance: bool = True,
        num_videos_per_prompt: int = 1,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        max_sequence_length: int | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor | None, ...]:
        """Embeddings of prompts and of negative prompts: what a call takes in place of texts.

        Arguments that are None mean what they mean in a call.

        Args:
            prompt_embeds, negative_prompt_embeds: an earlier result, to be passed on in place of texts.
            device, dtype: where and as what the embeddings are wanted; as the text encoder gives them if None.
        """
        embeds = {"prompt_embeds": prompt_embeds, "negative_prompt_embeds": negative_prompt_embeds}
        length = max_sequence_length or self.defaults["max_sequence_length"]
        encode = partial(encode_prompts, length, self._encode_texts)
        rows: dict[str, Any] = {"is_guided": do_classifier_free_guidance, "times": num_videos_per_prompt}
        return embeddings(encode, prompt, negative_prompt, embeds, **rows, device=device, dtype=dtype)

    def _encode_texts(self, texts: Sequence[str], max_length: int) -> Prompts:
        encoded = encode_text(self.tokenizer, self.text_encoder, texts, max_length, masks_encoder=False)
        return replace(encoded, prompt_attention_mask=None)  # the network attends to padding

    def encode_prompts(self, session: AnySession) -> Prompts:
        """The prompts of a request, one row for each video."""
        length = known(session.request.arguments.max_sequence_length)
        return encoded_prompts(session, partial(encode_prompts, length, self._encode_texts))

    # ---- sampling ------------------------------------------------------------------------------------------------

    def start(self, request: CogVideoXRequest[CogVideoXArguments]) -> Run:
        """The run's own schedule."""
        arguments = request.arguments
        settings = {"eta": arguments.eta} if arguments.eta else {}
        if arguments.timesteps is not None:
            return started(self.scheduler, timesteps=arguments.timesteps, **settings)
        return started(self.scheduler, num_inference_steps=arguments.num_steps, **settings)

    def latent_shape(self, request: Request[Any]) -> tuple[int, ...]:
        """Batch, frames, channels, height and width of the latents."""
        frames, height, width = request.size.latent_size
        return (request.num_videos, frames, self.vae.config.latent_channels, height, width)

    def initial_noise(self, session: AnySession, run: Run) -> Tensor:
        """The latents that a run starts from: the call's, or noise."""
        shape, device = self.latent_shape(session.request), execution_device(self.transformer)
        return initial_latents(session, shape, device, frame_dim=1) * run.init_noise_sigma

    def steps(self, session: Session[Any], conditions: Any) -> Iterator[Step]:
        """Yield the latents after every step."""
        run = self.start(session.request)
        yield from self.sample(session, conditions, self.initial_noise(session, run), run)

    def sample(
        self,
        session: AnySession,
        conditions: Conditions,
        latents: Tensor,  # (batch, frames, channels, height, width)
        run: Run,
        *,
        begin: int = 0,
    ) -> Iterator[Step]:
        """Yield the latents after every step from `begin` on."""
        transformer, arguments = self.transformer, session.request.arguments
        device, dtype = execution_device(transformer), transformer.dtype
        rotary = transformer.rotary_table(session.request.size.latent_size)
        extra = {} if transformer.config.ofs_embed_dim is None else {"ofs": latents.new_full((1,), 2.0)}

        def predict(latents: Tensor, timestep: float, given: Conditions) -> Tensor:
            times = torch.full((len(latents),), timestep, device=latents.device)
            if given.beside is not None:
                latents = torch.cat([latents, given.beside], dim=2)
            rotations = {"image_rotary_emb": rotary, **extra}
            return transformer(latents.to(dtype), given.prompt_embeds, times, **rotations, return_dict=False)[0].float()

        begins = [float(run.timesteps[call]) for call in run.begins if call >= begin]
        vary = dynamic_guidance(arguments.use_dynamic_cfg, begins)
        split: Split[Conditions] = away_from_negatives(arguments, vary=vary)
        guidance = Guidance(
            conditions,
            split,
            lambda given: replace(given, prompt_embeds=given.prompt_embeds.to(device, dtype)),
            arguments.guidance,
            in_turn=arguments.sequential_guidance,
        )
        yield from session.denoise(predict, latents, run, guidance, begin=begin)

    def encode_video(self, video: Tensor, session: AnySession, *, mode: bool = False) -> Tensor:
        """Latents drawn from the posterior of pixels, (batch, frames, channels, height, width), float32, not scaled.

        Args:
            video: (batch, 3, frames, height, width) in [-1, 1]; a picture is one frame.
            mode: take the most likely latents, in place of drawn ones.
        """
        posterior = posterior_of(self.vae, video, session.coding)
        # Row by row: the reference encodes one video after the other, and a batch's noise would be another.
        sources = session.generator if isinstance(session.generator, list) else [session.generator] * len(video)
        latents = posterior.mode() if mode else posterior.sample(sources)  # type: ignore[arg-type]
        return latents.float().movedim(2, 1).to(execution_device(self.transformer))

    def encode_clip(self, session: AnySession, pixels: Tensor, *, mode: bool = False) -> Tensor:
        """Scaled latents of clips that are as long as the video to make, one row for each video of the batch.

        A clip is filled up to the frames that the model makes with its last frame, and its latents to the number that
        the network takes with their first.

        Args:
            pixels: (clips, 3, frames, height, width) in [-1, 1].
            mode: take the most likely latents, in place of drawn ones.
        """
        request = session.request
        missing = request.size.generated_frames - pixels.shape[2]
        pixels = torch.cat([pixels, pixels[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2)
        if not mode and (len(pixels) > 1 or isinstance(session.generator, list)):
            pixels = request.per_video(pixels)
        latents = self.encode_video(pixels, session, mode=mode) * self.vae.config.scaling_factor
        latents = torch.cat([latents[:, :1].expand(-1, request.size.spare_latents, -1, -1, -1), latents], dim=1)
        if len(latents) == request.num_videos:
            return latents
        return request.per_video(latents)

    # ---- decoding ------------------------------------------------------------------------------------------------

    def decode(
        self, session: AnySession, vae: AutoencoderKLCogVideoX, latents: Tensor, coding: Coding | None
    ) -> Iterator[Tensor]:
        """Yield the video in runs of frames."""
        latents = latents[:, session.request.size.spare_latents :].movedim(1, 2)  # (batch, channels, frames, ...)
        latents = (latents / vae.config.scaling_factor).to(execution_device(vae), vae.dtype)
        if (coding or vae.coding).is_tiled:  # whose pasts, all at once, would take more than the video
            yield vae.decode(latents, return_dict=False, coding=coding)[0]
        else:
            yield from vae.decode_stream(latents, coding=coding)


def dynamic_guidance(kind: bool | str, timesteps: Sequence[float]) -> Callable[[float, float], float] | None:
    """From the guidance scale and the timestep of a step, the scale of that step; None if it stays the same.

    A cosine that rises from 1 with the fifth power of the progress: the share of steps that are done.

    Args:
        kind: False; True; or "timestep", which takes (steps - timestep) / steps for the progress as Diffusers does, so
            that the scale jumps about between 1 and its height.
        timesteps: those at which steps of the run begin.
    """
    if not kind:
        return None
    num_steps = len(timesteps)

    def scale_at(scale: float, timestep: float) -> float:
        done = sum(begun > timestep for begun in timesteps) - (timestep not in timesteps)  # or within a step
        progress = (num_steps - timestep if kind == "timestep" else done) / num_steps
        return 1 + scale * (1 - math.cos(math.pi * progress**5)) / 2

    return scale_at
