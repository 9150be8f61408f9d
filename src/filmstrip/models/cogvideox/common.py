"""What the pipelines of CogVideoX share: components, defaults, prompts, sampling and decoding."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.generation import Pipeline
from filmstrip.generation.denoising import denoise
from filmstrip.generation.events import Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.guidance import PromptGuidance
from filmstrip.generation.prompts import Prompts, encode_prompts, encode_text
from filmstrip.generation.request import Request, check_prompts, check_steps, make_request
from filmstrip.generation.resolving import Resolved, Rules, resolve
from filmstrip.generation.running import Report
from filmstrip.memory.residency import execution_device
from filmstrip.nn.noise import draw_noise
from filmstrip.nn.outputs import DiagonalGaussian
from filmstrip.schedulers import Run

EMBEDS = ("prompt_embeds", "negative_prompt_embeds")
# The configurations of 1.5 give the largest grid of positions in place of a size; its authors publish this one.
LARGEST_GRID, SIZE_OF_1_5 = (300, 300), (768, 1360)


@dataclass(frozen=True)
class Conditions:
    """What a run is conditioned on: its prompts, and latents of a picture or a clip."""

    prompts: Prompts
    latents: Tensor | None = None  # (videos, frames, channels, height, width)


class CogVideoXVideoPipeline(Pipeline):
    """Components of CogVideoX (arXiv:2408.06072), and the parts of its recipes that do not differ."""

    family_defaults: ClassVar[dict[str, Any]] = {
        "num_inference_steps": 50,
        "guidance_scale": 6.0,
        "max_sequence_length": 226,
    }
    _callback_tensor_inputs: ClassVar[tuple[str, ...]] = ("latents", "prompt_embeds", "negative_prompt_embeds")
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

    def check_call(self, values: dict[str, Any], num_frames: int) -> Request:
        """The request that a call's completed arguments make, for so many frames."""
        size = resolve(
            self.rules,
            height=values["height"],
            width=values["width"],
            num_frames=num_frames,
            frame_rate=self.defaults["frame_rate"],
        )
        self.check_components()
        self._check_positions(size)
        check_steps(values["num_inference_steps"], values["timesteps"], self.defaults["num_inference_steps"])
        if values["use_dynamic_cfg"] not in (False, True, "timestep"):
            raise ValueError(f"use_dynamic_cfg must be True, False or 'timestep', got {values['use_dynamic_cfg']!r}.")
        if values["eta"] and "eta" not in inspect.signature(self.scheduler.start).parameters:
            raise ValueError(f"eta has no effect with {type(self.scheduler).__name__}, only with DDIM; drop it.")
        request = make_request(values, size, self._callback_tensor_inputs)
        self.start(request)  # says what is wrong with a schedule
        return request

    def check_latents(self, name: str, latents: Tensor, request: Request, *, channels_first: bool = False) -> None:
        """See that latents have the shape that a request asks for.

        Args:
            channels_first: channels come before frames, and the rows may be one for all or one for each prompt.
        """
        videos, frames, channels, height, width = self.latent_shape(request)
        shapes = [(videos, frames, channels, height, width)]
        if channels_first:
            shapes = [(rows, channels, frames, height, width) for rows in sorted({1, request.num_prompts})]
        if tuple(latents.shape) not in shapes:
            allowed = " or ".join(map(str, shapes))
            raise ValueError(
                f"{name} must have the shape {allowed} for this size and length, got {tuple(latents.shape)}."
            )

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
    ) -> tuple[Tensor | None, Tensor | None]:
        """Embeddings of prompts and of negative prompts: what a call takes in place of texts.

        Arguments that are None mean what they mean in a call.

        Args:
            prompt_embeds, negative_prompt_embeds: an earlier result, to be passed on in place of texts.
            device, dtype: where and as what the embeddings are wanted; as the text encoder gives them if None.
        """
        embeds = {"prompt_embeds": prompt_embeds, "negative_prompt_embeds": negative_prompt_embeds}
        length = max_sequence_length or self.defaults["max_sequence_length"]
        texts, negatives, _ = check_prompts(prompt, negative_prompt, embeds, is_guided=do_classifier_free_guidance)
        with torch.no_grad():
            encoded = encode_prompts(self._encode_texts, texts, negatives, embeds, length)
        encoded = encoded.repeated(num_videos_per_prompt)
        both = (encoded.prompt_embeds, encoded.negative_prompt_embeds)
        prompt_embeds, negative_prompt_embeds = (None if one is None else one.to(device, dtype) for one in both)
        return prompt_embeds, negative_prompt_embeds

    def _encode_texts(self, texts: Sequence[str], max_length: int) -> Prompts:
        encoded = encode_text(self.tokenizer, self.text_encoder, texts, max_length, masks_encoder=False)
        return replace(encoded, prompt_attention_mask=None)  # the network attends to padding

    def encode_prompts(self, request: Request, report: Report) -> Prompts:
        """The prompts of a request, one row for each video."""
        is_guided = request["guidance_scale"] > 1
        given = {name: request[name] for name in EMBEDS if is_guided or name == "prompt_embeds"}
        length = request["max_sequence_length"]
        encoded = encode_prompts(self._encode_texts, request.prompts, request.negative_prompts, given, length)
        report.cut_off = encoded.cut_off
        for embeds in (encoded.prompt_embeds, encoded.negative_prompt_embeds):
            if embeds is not None:
                check_finite(embeds, "text_encoder")
        return encoded.repeated(request.num_videos_per_prompt)

    # ---- sampling ------------------------------------------------------------------------------------------------

    def start(self, request: Request) -> Run:
        """The run's own schedule."""
        steps = {"timesteps": request["timesteps"]} if request["timesteps"] is not None else {}
        settings = {"eta": request["eta"]} if request["eta"] else {}
        return self.scheduler.start(**(steps or {"num_inference_steps": request["num_inference_steps"]}), **settings)

    def latent_shape(self, request: Request) -> tuple[int, ...]:
        """Batch, frames, channels, height and width of the latents."""
        frames, height, width = request.size.latent_size
        return (request.num_videos, frames, self.vae.config.latent_channels, height, width)

    def initial_noise(self, request: Request, run: Run) -> Tensor:
        """The latents that a run starts from: the call's, or noise."""
        latents = request["latents"]
        if latents is None:
            latents = draw_noise(self.latent_shape(request), request.generator, execution_device(self.transformer))
        return latents.to(execution_device(self.transformer), torch.float32) * run.init_noise_sigma

    def steps(self, request: Request, conditions: Conditions) -> Iterator[Step]:
        """Yield the latents after every step."""
        run = self.start(request)
        latents = self.initial_noise(request, run)
        yield from self.sample(request, conditions.prompts, latents, run, condition=conditions.latents)

    def sample(
        self,
        request: Request,
        prompts: Prompts,
        latents: Tensor,  # (batch, frames, channels, height, width)
        run: Run,
        *,
        begin: int = 0,
        condition: Tensor | None = None,  # beside the latents, of their shape
    ) -> Iterator[Step]:
        """Yield the latents after every step from `begin` on."""
        transformer = self.transformer
        rotary = transformer.rotary_table(request.size.latent_size)
        extra = {} if transformer.config.ofs_embed_dim is None else {"ofs": latents.new_full((1,), 2.0)}

        def predict(latents: Tensor, timestep: float, prompt_embeds: Tensor) -> Tensor:
            times = torch.full((len(latents),), timestep, device=latents.device)
            if condition is not None:
                both = len(latents) // len(condition)  # 2 if the batch holds the negative prompts too
                latents = torch.cat([latents, condition.repeat(both, 1, 1, 1, 1)], dim=2)
            latents = latents.to(transformer.dtype)
            rotations = {"image_rotary_emb": rotary, **extra}
            return transformer(latents, prompt_embeds, times, **rotations, return_dict=False)[0].float()

        guidance = PromptGuidance(
            prompts,
            lambda half: half.prompt_embeds.to(execution_device(transformer), transformer.dtype),
            request["guidance_scale"],
            is_sequential=request["sequential_guidance"],
            vary=dynamic_guidance(request["use_dynamic_cfg"], run.timesteps.tolist()[begin:]),
        )
        for step in denoise(
            predict, latents, run, guidance, begin=begin, generator=request.generator, keeper=request.keeper
        ):
            guidance.offer(step)
            yield step
            guidance.accept(step)

    def encode_video(self, video: Tensor, generator: Any = None) -> Tensor:
        """Latents drawn from the posterior of pixels, (batch, frames, channels, height, width), float32, not scaled.

        Args:
            video: (batch, 3, frames, height, width) in [-1, 1]; a picture is one frame.
            generator: one, a list with one for each video, or "mode" for the most likely latents.
        """
        posterior: DiagonalGaussian = self.vae.encode(video.to(execution_device(self.vae), self.vae.dtype)).latent_dist
        check_finite(posterior.mean, "vae", "encoding")
        # Row by row: the reference encodes one video after the other, and a batch's noise would be another.
        sources = generator if isinstance(generator, list) else [generator] * len(video)
        latents = posterior.mode() if generator == "mode" else posterior.sample(sources)
        return latents.float().movedim(2, 1).to(execution_device(self.transformer))

    def encode_clip(self, request: Request, pixels: Tensor, *, mode: bool = False) -> Tensor:
        """Scaled latents of clips that are as long as the video to make, one row for each video of the batch.

        A clip is filled up to the frames that the model makes with its last frame, and its latents to the number that
        the network takes with their first.

        Args:
            pixels: (clips, 3, frames, height, width) in [-1, 1].
            mode: take the most likely latents, in place of drawn ones.
        """
        missing = request.size.generated_frames - pixels.shape[2]
        pixels = torch.cat([pixels, pixels[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2)
        if not mode and (len(pixels) > 1 or isinstance(request.generator, list)):
            pixels = request.per_video(pixels)
        latents = self.encode_video(pixels, "mode" if mode else request.generator) * self.vae.config.scaling_factor
        latents = torch.cat([latents[:, :1].expand(-1, request.size.spare_latents, -1, -1, -1), latents], dim=1)
        if len(latents) == request.num_videos:
            return latents
        return request.per_video(latents)

    # ---- decoding ------------------------------------------------------------------------------------------------

    def finished_latents(self, request: Request, latents: Tensor) -> Tensor:
        """Latents as the call takes them, (batch, frames, channels, height, width)."""
        return latents

    def decode(self, request: Request, latents: Tensor) -> Iterator[Tensor]:
        """Yield the video in runs of frames."""
        latents = latents[:, request.size.spare_latents :].movedim(1, 2)  # (batch, channels, frames, height, width)
        latents = latents / self.vae.config.scaling_factor
        latents = latents.to(execution_device(self.vae), self.vae.dtype)
        if self.vae.use_tiling:  # whose pasts, all at once, would take more than the video
            yield self.vae.decode(latents, return_dict=False)[0]
        else:
            yield from self.vae.decode_stream(latents)


def dynamic_guidance(kind: bool | str, timesteps: Sequence[float]) -> Callable[[float, float], float] | None:
    """From the guidance scale and the timestep of a step, the scale of that step; None if it stays the same.

    A cosine that rises from 1 with the fifth power of the progress: the share of steps that are done.

    Args:
        kind: False; True; or "timestep", which takes (steps - timestep) / steps for the progress as Diffusers does, so
            that the scale jumps about between 1 and its height.
        timesteps: those of the run.
    """
    if not kind:
        return None
    num_steps = len(timesteps)
    done = {timestep: index for index, timestep in reversed(list(enumerate(timesteps)))}

    def scale_at(scale: float, timestep: float) -> float:
        progress = (num_steps - timestep if kind == "timestep" else done[timestep]) / num_steps
        return 1 + scale * (1 - math.cos(math.pi * progress**5)) / 2

    return scale_at
