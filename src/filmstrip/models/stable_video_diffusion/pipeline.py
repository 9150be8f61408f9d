"""Stable Video Diffusion: image to video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.assembly import Pipeline
from filmstrip.checks import check_count, known
from filmstrip.generation.arguments import call
from filmstrip.generation.beginning import initial_latents, posterior_of
from filmstrip.generation.events import Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.guidance import ClassifierFree, Guidance, Rule
from filmstrip.generation.output import VideoOutput
from filmstrip.generation.request import adjusted, asked, check_shape, check_steps, requested
from filmstrip.generation.resolve import Rules
from filmstrip.generation.session import Session
from filmstrip.media.pixels import normalized_for_clip
from filmstrip.memory.coding import Coding
from filmstrip.memory.falling_back import in_float32
from filmstrip.memory.residency import execution_device
from filmstrip.models.stable_video_diffusion.arguments import (
    LARGEST_BUCKET,
    Conditions,
    VideoArguments,
    VideoRequest,
)
from filmstrip.models.stable_video_diffusion.autoencoder import AutoencoderKLTemporalDecoder
from filmstrip.models.stable_video_diffusion.pictures import CLIP_SIDE, read_pictures
from filmstrip.models.stable_video_diffusion.resizing import resized_for_clip
from filmstrip.models.stable_video_diffusion.unet import UNetSpatioTemporalConditionModel
from filmstrip.randomness import draw_noise
from filmstrip.schedulers import Run
from filmstrip.schedulers.flows import started

# What the logarithm of any noise level stays below; steps of the training count to 999.
LARGEST_LOGARITHM = 10

AnySession = Session[VideoRequest]


class StableVideoDiffusionPipeline(Pipeline):
    """Makes a video that begins with a picture (arXiv:2311.15127).

    The published checkpoints make 14 and 25 frames of 1024x576 at 7 frames a second.
    """

    vae: AutoencoderKLTemporalDecoder
    unet: UNetSpatioTemporalConditionModel
    family_defaults: ClassVar[dict[str, Any]] = {
        "num_inference_steps": 25,
        "min_guidance_scale": 1.0,
        "max_guidance_scale": 3.0,
        "fps": 7,
        "motion_bucket_id": 127,
        "noise_aug_strength": 0.02,
    }
    _callback_tensor_inputs: ClassVar[tuple[str, ...]] = ("latents", "image_embeds", "image_latents")
    follows_flow: ClassVar[bool | None] = False

    def __init__(self, vae: Any, image_encoder: Any, unet: Any, scheduler: Any, feature_extractor: Any) -> None:
        super().__init__(
            vae=vae, image_encoder=image_encoder, unet=unet, scheduler=scheduler, feature_extractor=feature_extractor
        )

    __call__ = call(VideoArguments, VideoOutput, "Generate videos from pictures.")

    def usual_defaults(self) -> dict[str, Any]:
        """The family's defaults, and the size and length that the U-Net was trained for: wide, 16 by 9."""
        if self.unet is None or self.vae is None:
            return dict(self.family_defaults)
        config, multiple = self.unet.config, self.vae.spatial_compression_ratio
        side = (config.sample_size or 96) * multiple  # of a square of as many pixels
        height, width = (max(1, round(share * side / multiple)) * multiple for share in (3 / 4, 4 / 3))
        return {"height": height, "width": width, "num_frames": config.num_frames, **self.family_defaults}

    @property
    def rules(self) -> Rules:
        """The sizes and lengths that these components can make."""
        ratio = self.vae.spatial_compression_ratio
        return Rules("Stable Video Diffusion", ratio, f"VAE {ratio}", ratio, 1, frame_stride=1, frame_offsets=(0,))

    # ---- what is asked for ---------------------------------------------------------------------------------------

    def check(self, arguments: VideoArguments) -> VideoRequest:
        arguments.check()
        self._check_components()
        size = asked(self.rules, arguments, known(arguments.num_frames), known(arguments.fps))
        check_steps(arguments.num_inference_steps, arguments.sigmas, self.defaults["num_inference_steps"])
        found: dict[str, Any] = {}
        count = 1
        if arguments.image is not None:
            side = CLIP_SIDE if self.image_encoder is None else self.image_encoder.config.image_size
            pixels, small = read_pictures(arguments.image, size.height, size.width, side)
            count, found = len(small), {"pixels": pixels, "small_pixels": small}
        if arguments.continue_from is not None:
            count = self._check_clip(arguments.continue_from, size.latent_size[1:], count)
            found.pop("pixels", None)
        request = requested(
            VideoRequest, arguments, size, self._callback_tensor_inputs, count, arguments.videos_per_picture, **found
        )
        if arguments.latents is not None:
            check_shape("latents", arguments.latents, self.latent_shape(request))
        return adjusted(request, *self._notes(request))

    def _check_components(self) -> None:
        takes, gives = self.unet.config.in_channels, 2 * self.vae.config.latent_channels
        numbers = self.unet.config.projection_class_embeddings_input_dim / self.unet.config.addition_time_embed_dim
        if takes != gives:
            raise ValueError(
                f"{self.name_or_path or 'The checkpoint'} is made for another task: its U-Net takes {takes} channels,"
                f" and this pipeline gives it {gives}, of noise and of a picture."
            )
        if numbers != 3:
            raise ValueError(
                f"{self.name_or_path or 'The checkpoint'} is made for another task: its U-Net is told {numbers:g}"
                " numbers, and this pipeline tells it 3 (fps, motion_bucket_id, noise_aug_strength)."
            )

    def _check_clip(self, clip: Tensor, sides: tuple[int, int], num_pictures: int) -> int:
        """See that a clip's latents fit; the number of videos that go on."""
        channels = self.vae.config.latent_channels
        if clip.dim() != 5 or 0 in clip.shape[:2] or tuple(clip.shape[2:]) != (channels, *sides):
            rows, columns = sides
            raise ValueError(
                f"continue_from must have the shape (videos, frames, {channels}, {rows}, {columns}) for this size, got"
                f" {tuple(clip.shape)}."
            )
        if num_pictures > 1:
            check_count("clips to go on from", clip, num_pictures)
        return max(len(clip), num_pictures)

    def _notes(self, request: VideoRequest) -> Iterator[str]:
        """What to know of a request that can be made, but not well."""
        arguments, size, config = request.arguments, request.size, self.unet.config
        bucket = known(arguments.motion_bucket_id)
        if not 0 <= bucket <= LARGEST_BUCKET:
            yield f"motion_bucket_id {bucket:g} is outside of 0 to {LARGEST_BUCKET}, which networks were trained on."
        height, width = self.usual_defaults()["height"], self.usual_defaults()["width"]
        if size.height * size.width < height * width:
            yield (
                f"The network was made for {width}x{height}; videos with fewer pixels, as these of"
                f" {size.width}x{size.height}, come out worse."
            )
        if size.num_frames > config.num_frames:
            yield f"The network was made for {config.num_frames} frames; of {size.num_frames}, the last come out worse."
        run = self.start(request)  # says what is wrong with a schedule
        if (last := max(run.timesteps.tolist())) > LARGEST_LOGARITHM:
            yield (
                f"{type(self.scheduler).__name__} tells the network steps up to {last:g}, and it was made for"
                " logarithms of noise levels: use the checkpoint's own scheduler, or set timestep_type='continuous'."
            )

    # ---- conditions ----------------------------------------------------------------------------------------------

    def encode(self, session: AnySession) -> Conditions:
        """The picture as CLIP and as the autoencoder see it, and three numbers."""
        request, arguments = session.request, session.request.arguments
        latents = self._picture_latents(session)
        small = self._seen_by_clip(request, latents)
        numbers = (known(arguments.fps) - 1, arguments.motion_bucket_id, arguments.noise_aug_strength)
        time_ids = torch.tensor([numbers], dtype=torch.float32).expand(request.num_videos, -1)
        return Conditions(self._embedded(small, request), self._rows(latents, request), time_ids)

    def _picture_latents(self, session: AnySession) -> Tensor:
        """Latents of the pictures, not scaled; rows are one for each picture, or for each video."""
        request, vae = session.request, self.vae
        clip, strength = request.arguments.continue_from, known(request.arguments.noise_aug_strength)
        if clip is not None:
            return clip[:, -1].to(execution_device(vae), torch.float32) / vae.config.scaling_factor
        pixels = known(request.pixels)
        if isinstance(session.generator, list):  # a source of noise for each video
            pixels = request.per_video(pixels)
        device = execution_device(vae)
        noise = draw_noise(pixels.shape, session.generator, device)
        pixels = pixels.to(device) + strength * noise
        if vae.dtype == torch.float16 and vae.config.force_upcast:
            with in_float32(vae) as wide:
                return posterior_of(wide, pixels, session.coding).mode().float()
        return posterior_of(vae, pixels, session.coding).mode().float()

    def _seen_by_clip(self, request: VideoRequest, latents: Tensor) -> Tensor:
        """The pictures, or those that latents stand for, as small as CLIP takes them."""
        small, side, image = request.small_pixels, self.image_encoder.config.image_size, request.arguments.image
        if small is None:
            vae = self.vae
            given = latents.to(execution_device(vae), vae.dtype)
            frames = vae.decode(given, num_frames=1, return_dict=False)[0].float().clamp(-1, 1)
            return resized_for_clip(check_finite(frames, "vae", "the last frame"), side)
        if small.shape[-1] != side and image is not None:  # the request was made where no encoder was at hand
            return read_pictures(image, request.size.height, request.size.width, side)[1]
        return small if small.shape[-1] == side else resized_for_clip(small, side)

    def _embedded(self, small: Tensor, request: VideoRequest) -> Tensor:
        """CLIP's embedding of each video's picture, (videos, 1, dim)."""
        encoder = self.image_encoder
        given = normalized_for_clip(small, self.feature_extractor).to(execution_device(encoder), encoder.dtype)
        embeds = check_finite(encoder(pixel_values=given).image_embeds, "image_encoder")
        return request.per_video(embeds[:, None])

    @staticmethod
    def _rows(latents: Tensor, request: VideoRequest) -> Tensor:
        return latents if len(latents) == request.num_videos else request.per_video(latents)

    # ---- sampling ------------------------------------------------------------------------------------------------

    def start(self, request: VideoRequest) -> Run:
        """The run's own schedule."""
        arguments = request.arguments
        steps: dict[str, Any] = {"num_inference_steps": arguments.num_steps}
        run: Run = started(self.scheduler, **(steps if arguments.sigmas is None else {"sigmas": arguments.sigmas}))
        return run

    def latent_shape(self, request: VideoRequest) -> tuple[int, ...]:
        """Batch, frames, channels, height and width of the latents."""
        frames, height, width = request.size.latent_size
        return (request.num_videos, frames, self.vae.config.latent_channels, height, width)

    def steps(self, session: AnySession, conditions: Conditions) -> Iterator[Step]:
        """Yield the latents, (batch, frames, channels, height, width), after every step."""
        request, arguments, unet = session.request, session.request.arguments, self.unet
        device, num_frames, run = execution_device(unet), request.size.latent_size[0], self.start(request)
        latents = initial_latents(session, self.latent_shape(request), device, frame_dim=1) * run.init_noise_sigma

        def predict(latents: Tensor, timestep: float, given: Conditions) -> Tensor:
            beside = given.image_latents[:, None].expand(-1, num_frames, -1, -1, -1)
            sample = torch.cat([latents, beside], dim=2).to(unet.dtype)
            return unet(sample, timestep, given.image_embeds, given.time_ids, return_dict=False)[0].float()

        def split(conditions: Conditions, scale: float) -> tuple[Rule | None, list[Conditions]]:
            if not arguments.guides_at(scale):
                return None, [conditions]
            nothing: dict[str, Any] = {
                name: torch.zeros_like(getattr(conditions, name)) for name in ("image_embeds", "image_latents")
            }
            rising = torch.linspace(known(arguments.min_guidance_scale), scale, num_frames)  # or falling
            of_frames = rising.to(device)[:, None, None, None]  # (frames, 1, 1, 1)
            return ClassifierFree(of_frames), [replace(conditions, **nothing), conditions]

        def prepare(given: Conditions) -> Conditions:
            placed: dict[str, Any] = {name: one.to(device) for name, one in given.tensors.items()}
            return replace(given, **{**placed, "image_embeds": placed["image_embeds"].to(unet.dtype)})

        guidance = Guidance(conditions, split, prepare, arguments.guidance, in_turn=arguments.sequential_guidance)
        yield from session.denoise(predict, latents, run, guidance, network="unet")

    # ---- decoding ------------------------------------------------------------------------------------------------

    def decode(
        self, session: AnySession, vae: AutoencoderKLTemporalDecoder, latents: Tensor, coding: Coding | None
    ) -> Iterator[Tensor]:
        """Yield the videos in runs of frames."""
        arguments = session.request.arguments
        if arguments.decode_chunk_size is not None:
            coding = vae.in_chunks(arguments.decode_chunk_size, arguments.decode_overlap, coding)
        yield from self._decoded(vae, latents, coding)

    def decode_latents(
        self, latents: Tensor, num_frames: int | None = None, decode_chunk_size: int | None = None
    ) -> Tensor:
        """The videos, (batch, 3, frames, height, width) in [-1, 1], float32, of latents as calls return them.

        Args:
            latents: (batch, frames, channels, height / 8, width / 8).
            num_frames: taken from code written for Diffusers; it is what the latents have.
            decode_chunk_size: as in a call.
        """
        if num_frames not in (None, latents.shape[1]):
            raise ValueError(f"num_frames is {num_frames}, and the latents have {latents.shape[1]} frames; drop it.")
        coding = None if decode_chunk_size is None else self.vae.in_chunks(decode_chunk_size)
        with torch.no_grad():
            return torch.cat(list(self._decoded(self.vae, latents, coding)), dim=2).float()

    @staticmethod
    def _decoded(vae: AutoencoderKLTemporalDecoder, latents: Tensor, coding: Coding | None) -> Iterator[Tensor]:
        num_frames = latents.shape[1]
        latents = (latents.flatten(0, 1) / vae.config.scaling_factor).to(execution_device(vae), vae.dtype)
        yield from vae.decode_stream(latents, num_frames, coding)
