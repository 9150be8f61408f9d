"""LTX-Video: latents of twice the size, between a first and a second pass (0.9.7 and later)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.generation import Pipeline
from filmstrip.generation.events import TOLD, Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.packing import denormalize_latents, normalize_latents
from filmstrip.generation.request import OUTPUT_TYPES, Request, check_choice, check_generator, check_share
from filmstrip.generation.resolving import Resolved, Rules, resolve
from filmstrip.generation.running import Report, VideoOutput, result
from filmstrip.media.pixels import preprocess_video
from filmstrip.memory.residency import execution_device
from filmstrip.models.ltx.common import decode_latents, per_video

logger = logging.getLogger(__name__)


class LTXLatentUpsamplePipeline(Pipeline):
    """Doubles the size of a video, or of the latents of one, by way of its latents."""

    family_defaults: ClassVar[dict[str, Any]] = {"height": 512, "width": 704}

    def __init__(self, vae: Any, latent_upsampler: Any) -> None:
        super().__init__(vae=vae, latent_upsampler=latent_upsampler)

    def __call__(
        self,
        video: Any = None,
        height: int | None = None,
        width: int | None = None,
        latents: Tensor | None = None,
        decode_timestep: float | Sequence[float] = 0.0,
        decode_noise_scale: float | Sequence[float] | None = None,
        adain_factor: float = 0.0,
        tone_map_compression_ratio: float = 0.0,
        generator: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> VideoOutput | tuple[Any, ...]:
        """Upsample videos.

        Args:
            video: a clip, or several of one length; frames beyond the last 8k + 1 are left out.
            height, width: the size that the clip is resized to before it is encoded; not used with latents.
            latents: normalised latents, (batch, channels, frames, height, width), in place of `video`.
            decode_timestep: from where, in [0, 1], a timestep-conditioned decoder finishes; a list has one a video.
            decode_noise_scale: noise mixed in for it; by default as much as the timestep.
            adain_factor: from 0 to 1, how far to bring each channel back to its mean and deviation (arXiv:1703.06868).
            tone_map_compression_ratio: from 0 to 1, how far to press large values down.
            generator: source of all randomness; a list has one for each video.
            output_type: "pil", "np", "pt", "uint8" or "latent"; see `VideoOutput`.
            return_dict: whether to return a `VideoOutput` and not a tuple.

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    @property
    def rules(self) -> Rules:
        """The sizes and lengths that these components can take."""
        ratio, ratio_t = self.vae.spatial_compression_ratio, self.vae.temporal_compression_ratio
        return Rules("LTX-Video", ratio, f"VAE {ratio}", ratio, ratio_t, frame_stride=ratio_t)

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        video, latents = values["video"], values["latents"]
        if (video is None) == (latents is None):
            given = "neither" if video is None else "both"
            raise ValueError(f"Upsampling starts from video or from latents, {given} given; pass one of them.")
        for name in ("height", "width"):
            if latents is not None and values[name] != self.defaults[name]:
                raise ValueError(f"{name} has no effect with latents, whose own size is doubled; drop it.")
        check_choice("output_type", values["output_type"], OUTPUT_TYPES)
        for name in ("adain_factor", "tone_map_compression_ratio"):
            check_share(name, values[name])
        cuts: tuple[str, ...] = ()
        if latents is None:
            size = resolve(self.rules, height=values["height"], width=values["width"], num_frames=1, frame_rate=1)
            values["pixels"], cuts = self._pixels(video, size)
            count = len(values["pixels"])
        else:
            count = len(latents)
        for name in ("decode_timestep", "decode_noise_scale"):
            if values[name] and not self.vae.config.timestep_conditioning:
                raise ValueError(f"{name} has no effect: this checkpoint's decoder takes no timestep; drop it.")
            values[name] = per_video(name, values[name], count, 1)
        return Request(
            prompts=None,
            negative_prompts=None,
            size=replace(self._made(values), adjustments=cuts),
            num_videos=count,
            num_videos_per_prompt=1,
            generator=check_generator(values["generator"], count),
            output_type=values["output_type"],
            options=MappingProxyType(values),
        )

    def encode(self, request: Request, report: Report) -> Tensor:
        """The latents to upsample, as the autoencoder made them: not normalised."""
        vae, latents = self.vae, request["latents"]
        if latents is None:
            posterior = vae.encode(request["pixels"].to(execution_device(vae), vae.dtype)).latent_dist
            latents = check_finite(posterior.sample(request.generator).float(), "vae", "encoding")
            latents = normalize_latents(latents, vae.latents_mean, vae.latents_std)
        latents = latents.to(execution_device(vae), torch.float32)
        latents = denormalize_latents(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
        return latents.to(self.latent_upsampler.dtype)

    def steps(self, request: Request, conditions: Tensor) -> Iterator[Step]:
        """Yield the upsampled latents: there is one step."""
        latents = check_finite(self.latent_upsampler(conditions), "latent_upsampler")
        if request["adain_factor"] > 0:
            latents = torch.lerp(latents, match_statistics(latents, conditions), request["adain_factor"])
        if request["tone_map_compression_ratio"] > 0:
            latents = tone_map(latents, request["tone_map_compression_ratio"])
        vae = self.vae
        latents = normalize_latents(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
        yield Step(0, 1, 0.0, latents, before=conditions)

    def finished_latents(self, request: Request, latents: Tensor) -> Tensor:
        """Normalised latents, (batch, channels, frames, height, width)."""
        return latents

    def decode(self, request: Request, latents: Tensor) -> Iterator[Tensor]:
        """Yield the video in runs of frames."""
        yield from decode_latents(
            self.vae, latents, request.generator, request["decode_timestep"], request["decode_noise_scale"]
        )

    def _pixels(self, video: Any, size: Resolved) -> tuple[Tensor, tuple[str, ...]]:
        """The frames that can be encoded, and a sentence if those are not all."""
        pixels = preprocess_video(video, size.height, size.width)
        stride, given = self.vae.temporal_compression_ratio, pixels.shape[2]
        pixels = pixels[:, :, : (given - 1) // stride * stride + 1]
        if pixels.shape[2] == given:
            return pixels, ()
        sentence = f"LTX-Video takes {stride}k + 1 frames: of {given} the first {pixels.shape[2]} are upsampled."
        logger.warning(sentence, extra=TOLD)
        return pixels, (sentence,)

    def _made(self, values: dict[str, Any]) -> Resolved:
        """What comes out of the latents that go in."""
        ratio, stride = self.vae.spatial_compression_ratio, self.vae.temporal_compression_ratio
        if values["latents"] is None:
            _, _, frames, height, width = values["pixels"].shape
            frames, height, width = (frames - 1) // stride + 1, height // ratio, width // ratio
        else:
            if values["latents"].dim() != 5:
                got = tuple(values["latents"].shape)
                raise ValueError(f"latents must be (batch, channels, frames, height, width), got the shape {got}.")
            frames, height, width = values["latents"].shape[2:]
        more_frames, rows, columns = self.latent_upsampler.factors
        frames, height, width = frames * more_frames - (more_frames - 1), height * rows, width * columns
        num_frames = (frames - 1) * stride + 1
        return Resolved(
            height=height * ratio,
            width=width * ratio,
            num_frames=num_frames,
            generated_frames=num_frames,
            frame_rate=25.0,
            latent_size=(frames, height, width),
            num_tokens=frames * height * width,
        )


def match_statistics(latents: Tensor, reference: Tensor) -> Tensor:
    """Latents with each channel's mean and deviation those of a reference (arXiv:1703.06868)."""
    axes = (2, 3, 4)
    std, mean = torch.std_mean(latents, axes, keepdim=True)
    wanted_std, wanted_mean = torch.std_mean(reference, axes, keepdim=True)
    return (latents - mean) / std * wanted_std + wanted_mean


def tone_map(latents: Tensor, compression: float) -> Tensor:
    """Latents whose large values are pressed down smoothly, by up to 80 % at full compression."""
    strength = 0.75 * compression
    return latents * (1 - 0.8 * strength * torch.sigmoid(4 * strength * (latents.abs() - 1)))
