"""LTX-Video: latents of twice the size, between a first and a second pass (0.9.7 and later)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.assembly import Pipeline
from filmstrip.checks import check_one_of, known
from filmstrip.generation.arguments import Arguments, Sized, argument, call, check_ranges
from filmstrip.generation.beginning import posterior_of
from filmstrip.generation.events import TOLD, Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.output import VideoOutput
from filmstrip.generation.packing import denormalize_latents, normalize_latents
from filmstrip.generation.request import asked, check_generator
from filmstrip.generation.resolve import Resolved, Rules
from filmstrip.generation.session import Session
from filmstrip.media.pixels import preprocess_video
from filmstrip.memory.coding import Coding
from filmstrip.memory.residency import execution_device
from filmstrip.models.ltx.autoencoder import AutoencoderKLLTXVideo
from filmstrip.models.ltx.common import Decoded, LTXRequest, decode_latents, told_to_decoder
from filmstrip.records import record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Clip(Arguments):
    """The video to enlarge."""

    video: Any = argument(
        "a clip, or several of one length; frames beyond the last 8k + 1 are left out.", role="clip", instead="latents"
    )


@record("ltx upsample arguments")
@dataclass(frozen=True, eq=False)
class UpsampleArguments(Decoded, Sized, Clip):
    """What upsampling takes; height and width are what a clip is resized to before it is encoded."""

    latents: Tensor | None = argument(
        "normalised latents, (batch, channels, frames, height, width), in place of `video`."
    )
    _: KW_ONLY
    adain_factor: float = argument(
        "how far to bring each channel back to its mean and deviation (arXiv:1703.06868).", 0.0, range="share"
    )
    tone_map_compression_ratio: float = argument("how far to press large values down.", 0.0, range="share")


@record("ltx upsample request")
@dataclass(frozen=True, eq=False, kw_only=True)
class UpsampleRequest(LTXRequest[UpsampleArguments]):
    """What a run of upsampling is to do."""

    pixels: Tensor | None = None  # (clips, 3, frames, height, width)


class LTXLatentUpsamplePipeline(Pipeline):
    """Doubles the size of a video, or of the latents of one, by way of its latents."""

    family_defaults: ClassVar[dict[str, Any]] = {"height": 512, "width": 704}

    def __init__(self, vae: Any, latent_upsampler: Any) -> None:
        super().__init__(vae=vae, latent_upsampler=latent_upsampler)

    __call__ = call(UpsampleArguments, VideoOutput, "Upsample videos.")

    @property
    def rules(self) -> Rules:
        """The sizes and lengths that these components can take."""
        ratio, ratio_t = self.vae.spatial_compression_ratio, self.vae.temporal_compression_ratio
        return Rules("LTX-Video", ratio, f"VAE {ratio}", ratio, ratio_t, frame_stride=ratio_t)

    def check(self, arguments: UpsampleArguments) -> UpsampleRequest:
        video, latents = arguments.video, arguments.latents
        check_one_of("Upsampling", video=video, latents=latents)
        for name in ("height", "width"):
            if latents is not None and getattr(arguments, name) != self.defaults[name]:
                raise ValueError(f"{name} has no effect with latents, whose own size is doubled; drop it.")
        check_ranges(arguments)
        cuts: tuple[str, ...] = ()
        pixels: Tensor | None = None
        if latents is None:
            pixels, cuts = self._pixels(video, asked(self.rules, arguments, 1, 1))
        count = len(known(pixels if latents is None else latents))
        request = UpsampleRequest(
            arguments=arguments,
            size=replace(self._made(pixels, latents), adjustments=cuts),
            num_videos=count,
            generator=check_generator(arguments.generator, count),
            pixels=pixels,
        )
        return replace(request, decoder=told_to_decoder(self.vae, arguments, request))

    def encode(self, session: Session[UpsampleRequest]) -> Tensor:
        """The latents to upsample, as the autoencoder made them: not normalised."""
        vae, latents, pixels = self.vae, session.request.arguments.latents, session.request.pixels
        if pixels is not None:
            latents = posterior_of(vae, pixels, session.coding).sample(session.generator).float()
            latents = normalize_latents(latents, vae.latents_mean, vae.latents_std)
        latents = known(latents).to(execution_device(vae), torch.float32)
        latents = denormalize_latents(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
        return latents.to(self.latent_upsampler.dtype)

    def steps(self, session: Session[UpsampleRequest], conditions: Tensor) -> Iterator[Step]:
        """Yield the upsampled latents: there is one step."""
        arguments, vae = session.request.arguments, self.vae
        latents = check_finite(self.latent_upsampler(conditions), "latent_upsampler")
        if arguments.adain_factor > 0:
            latents = torch.lerp(latents, match_statistics(latents, conditions), arguments.adain_factor)
        if arguments.tone_map_compression_ratio > 0:
            latents = tone_map(latents, arguments.tone_map_compression_ratio)
        latents = normalize_latents(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
        yield Step(0, 1, 0.0, latents, before=conditions)

    def decode(
        self,
        session: Session[UpsampleRequest],
        vae: AutoencoderKLLTXVideo,
        latents: Tensor,
        coding: Coding | None,
    ) -> Iterator[Tensor]:
        """Yield the video in runs of frames."""
        yield from decode_latents(session, vae, latents, session.request.decoder, coding)

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

    def _made(self, pixels: Tensor | None, latents: Tensor | None) -> Resolved:
        """What comes out of the latents that go in."""
        ratio, stride = self.vae.spatial_compression_ratio, self.vae.temporal_compression_ratio
        if pixels is not None:
            _, _, frames, height, width = pixels.shape
            frames, height, width = (frames - 1) // stride + 1, height // ratio, width // ratio
        else:
            assert latents is not None, "the check sees that there is one of both"
            if latents.dim() != 5:
                got = tuple(latents.shape)
                raise ValueError(f"latents must be (batch, channels, frames, height, width), got the shape {got}.")
            frames, height, width = latents.shape[2:]
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
