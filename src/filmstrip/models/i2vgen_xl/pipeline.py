"""I2VGen-XL: a video from a picture and a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.checks import check_count, check_whole_number, known
from filmstrip.generation.arguments import (
    Arguments,
    Embedded,
    Lasting,
    Noised,
    Prompted,
    Repeated,
    Sampled,
    Sized,
    argument,
    call,
)
from filmstrip.generation.beginning import posterior_of
from filmstrip.generation.events import Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.guidance import Guidance, Split, away_from_negatives
from filmstrip.generation.output import VideoOutput
from filmstrip.generation.prompts import embeddings
from filmstrip.generation.request import adjusted
from filmstrip.generation.resolve import Rules
from filmstrip.generation.session import Session
from filmstrip.media.pixels import normalized_for_clip
from filmstrip.memory.coding import Coding
from filmstrip.memory.residency import execution_device
from filmstrip.models.i2vgen_xl.pictures import (
    crop_notes,
    pictures_in,
    seen_by_autoencoder,
    seen_by_clip,
    squares_of,
)
from filmstrip.models.i2vgen_xl.unet import I2VGenXLUNet
from filmstrip.models.modelscope.common import ModelScopeBase, decoded_videos
from filmstrip.models.stable_diffusion.arguments import (
    PictureConditions,
    PictureRequest,
    Processed,
    Skipping,
    asked_size,
)
from filmstrip.models.stable_diffusion.autoencoder import AutoencoderKL
from filmstrip.models.stable_diffusion.common import StableDiffusionBase
from filmstrip.randomness import draw_noise
from filmstrip.records import record


@dataclass(frozen=True, eq=False)
class Shown(Arguments):
    """The picture that becomes a video."""

    image: Any = argument(
        "what the video begins with: a picture, an array or a tensor; a list has one for each prompt. It is scaled to "
        "cover the video and cut to its size around the middle.",
        role="picture",
    )


@dataclass(frozen=True, eq=False)
class Rated(Arguments):
    """A rate that the network is told."""

    target_fps: int | None = argument("frames a second that the motion is meant for; None: 16.", range="count")


@record("i2vgen-xl arguments")
@dataclass(frozen=True, eq=False)
class ImageArguments(Skipping, Processed, Embedded, Repeated, Noised, Sampled, Lasting, Rated, Sized, Shown, Prompted):
    """What I2VGen-XL takes."""

    _: KW_ONLY
    clip_skip: int | None = argument(
        "how many of the text encoder's last layers are left out, for negative prompts as well.", 1
    )
    decode_chunk_size: int | None = argument(
        "frames that are decoded at a time; less takes less memory, and the video is the same. None: as many as the "
        "autoencoder takes.",
        1,
        range="count",
    )
    latents: Tensor | None = argument("the initial noise, (batch, channels, frames, height / 8, width / 8).")


@record("i2vgen-xl request")
@dataclass(frozen=True, eq=False, kw_only=True)
class ImageRequest(PictureRequest[ImageArguments]):
    """What a run of I2VGen-XL is to do."""

    pixels: Tensor | None = None  # of pictures as large as the video, (pictures, 3, height, width)
    squares: Tensor | None = None  # of the same pictures for CLIP, uint8, (pictures, width, width, 3)


AnySession = Session[ImageRequest]


@dataclass(frozen=True)
class Conditions(PictureConditions):
    """What a run is conditioned on: its prompts, and the picture as CLIP and as the autoencoder see it."""

    image_embeddings: Tensor | None = None  # (batch, 1, dim)
    image_latents: Tensor | None = None  # the picture's, and the places of the other frames; see the U-Net

    @property
    def negative(self) -> Conditions | None:
        """The negative prompts as prompts, if there are such; CLIP sees nothing then."""
        negative = super().negative
        return negative and replace(negative, image_embeddings=torch.zeros_like(known(self.image_embeddings)))


class I2VGenXLPipeline(ModelScopeBase):
    """Makes a video from a picture and a text (arXiv:2311.04145)."""

    unet: I2VGenXLUNet  # type: ignore[assignment]
    family_defaults: ClassVar[dict[str, Any]] = {
        "height": 704,
        "width": 1280,
        "num_frames": 16,
        "num_inference_steps": 50,
        "guidance_scale": 9.0,
        "frame_rate": 16,
    }
    _callback_tensor_inputs: ClassVar[tuple[str, ...]] = (
        "latents",
        "prompt_embeds",
        "negative_prompt_embeds",
        "image_embeddings",
        "image_latents",
    )
    _skips_for_negatives: ClassVar[bool] = True

    def __init__(
        self,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        image_encoder: Any,
        feature_extractor: Any,
        unet: Any,
        scheduler: Any,
    ) -> None:
        super(StableDiffusionBase, self).__init__(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_encoder=image_encoder,
            feature_extractor=feature_extractor,
            unet=unet,
            scheduler=scheduler,
        )

    __call__ = call(ImageArguments, VideoOutput, "Generate videos from pictures.")

    def usual_defaults(self) -> dict[str, Any]:
        """The family's defaults, whatever size the U-Net's config names."""
        return dict(self.family_defaults)

    @property
    def rules(self) -> Rules:
        """The sizes and lengths that these components can make: any length."""
        return replace(super().rules, title="I2VGen-XL")

    def check(self, arguments: ImageArguments) -> ImageRequest:
        if arguments.image is None:
            raise ValueError("Image to video needs an image, and none was given; pass the picture as image.")
        length, rate = known(arguments.num_frames), arguments.target_fps
        if rate is not None:
            check_whole_number("target_fps", rate)
        request = self.checked(ImageRequest, arguments, asked_size(arguments), length, rate)
        pictures = pictures_in(arguments.image)
        check_count("pictures", pictures, request.num_prompts)
        height, width = request.size.height, request.size.width
        request = replace(
            request,
            pixels=seen_by_autoencoder(pictures, width, height),
            squares=squares_of(pictures, width),
        )
        return adjusted(request, *crop_notes(pictures, width, height))

    # ---- conditions ----------------------------------------------------------------------------------------------

    def encode_prompt(  # type: ignore[override]
        self,
        prompt: str | Sequence[str] | None,
        device: str | torch.device | None = None,
        num_videos_per_prompt: int = 1,
        negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        clip_skip: int | None = None,
        do_classifier_free_guidance: bool = True,
        long_prompts: bool = False,
    ) -> tuple[Tensor | None, ...]:
        """Embeddings of prompts and of negative prompts: what a call takes in place of texts.

        Args:
            device: where the embeddings are wanted; where the text encoder is if None.
            clip_skip: a call leaves out one layer unless it says otherwise.
        """
        embeds = {"prompt_embeds": prompt_embeds, "negative_prompt_embeds": negative_prompt_embeds}
        encode = partial(self._encode, (clip_skip, long_prompts))
        rows: dict[str, Any] = {"is_guided": do_classifier_free_guidance, "times": num_videos_per_prompt}
        return embeddings(encode, prompt, negative_prompt, embeds, **rows, device=device)

    def encode(self, session: AnySession) -> Conditions:
        """The prompts, and the picture as CLIP and as the autoencoder see it."""
        return Conditions.of(
            self.encode_prompts(session),
            image_embeddings=self._image_embeddings(session.request),
            image_latents=self._image_latents(session),
        )

    def _image_embeddings(self, request: ImageRequest) -> Tensor:
        """CLIP's embedding of each video's picture, (videos, 1, dim)."""
        encoder = self.image_encoder
        pixels = normalized_for_clip(
            seen_by_clip(known(request.squares), encoder.config.image_size), self.feature_extractor
        )
        embeds = encoder(pixel_values=pixels.to(execution_device(encoder), encoder.dtype)).image_embeds
        return request.per_video(check_finite(embeds, "image_encoder")[:, None])

    def _image_latents(self, session: AnySession) -> Tensor:
        """The picture's latents as the first frame, and the others' places, (videos, channels, frames, ...)."""
        request, num_frames = session.request, session.request.size.num_frames
        posterior = posterior_of(self.vae, known(request.pixels), session.coding)
        mean, std = (request.per_video(one.float()) for one in (posterior.mean, posterior.std))
        pictures = (mean + std * draw_noise(mean.shape, session.generator, mean.device)).unsqueeze(2)
        places = torch.arange(1, num_frames, device=mean.device) / (num_frames - 1)  # up to 1
        others = places[:, None, None].expand(*mean.shape[:2], -1, *mean.shape[2:])
        return torch.cat([pictures * self.vae.config.scaling_factor, others], dim=2)

    # ---- sampling ------------------------------------------------------------------------------------------------

    def steps(self, session: AnySession, conditions: Conditions) -> Iterator[Step]:
        """Yield the latents, (batch, channels, frames, height, width), after every step."""
        request, arguments, unet = session.request, session.request.arguments, self.unet
        run, device = self.start(request), execution_device(unet)

        def predict(latents: Tensor, timestep: float, given: Conditions) -> Tensor:
            prediction: Tensor = unet(
                latents.to(unet.dtype),
                timestep,
                request.size.frame_rate,
                known(given.image_latents),
                known(given.image_embeddings),
                given.prompt_embeds,
                cross_attention_kwargs=arguments.for_processors,
                return_dict=False,
            )[0]
            return prediction.float()

        def prepare(given: Conditions) -> Conditions:
            placed: dict[str, Any] = {name: one.to(device, unet.dtype) for name, one in given.tensors.items()}
            return replace(given, **placed)

        split: Split[Conditions] = away_from_negatives(arguments)
        guidance = Guidance(conditions, split, prepare, arguments.guidance, in_turn=arguments.sequential_guidance)
        latents = self.initial_noise(session, run)
        yield from session.denoise(predict, latents, run, guidance, network="unet")

    def decode(
        self, session: Session[Any], vae: AutoencoderKL, latents: Tensor, coding: Coding | None
    ) -> Iterator[Tensor]:
        """Yield the videos in runs of frames, (batch, 3, frames, height, width)."""
        yield from decoded_videos(vae, latents, coding, session.request.arguments.decode_chunk_size)
