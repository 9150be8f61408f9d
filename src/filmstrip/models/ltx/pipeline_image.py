"""LTX-Video: image to video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from filmstrip.checks import check_count
from filmstrip.generation.arguments import Arguments, argument, call
from filmstrip.generation.events import Step
from filmstrip.generation.output import VideoOutput
from filmstrip.generation.packing import pack_latents
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.session import Session
from filmstrip.media.pixels import preprocess_image
from filmstrip.memory.residency import execution_device
from filmstrip.models.ltx.common import LTXArguments, LTXRequest, LTXVideoPipeline, prompt_guidance
from filmstrip.randomness import draw_noise
from filmstrip.records import record


@dataclass(frozen=True, eq=False)
class FirstFrame(Arguments):
    """The picture that a video begins with."""

    image: Any = argument(
        "the first frame: a picture, an array or a tensor; a list has one for each prompt. It is resized.",
        role="picture",
        instead="latents",
    )


@record("ltx image arguments")
@dataclass(frozen=True, eq=False)
class ImageArguments(LTXArguments, FirstFrame):
    """What image to video takes."""

    _: KW_ONLY
    latents: Tensor | None = argument(
        "in place of `image`, latents whose first frame is clean and whose others are noise, packed as tokens or"
        " (batch, channels, frames, height, width)."
    )


@record("ltx image request")
@dataclass(frozen=True, eq=False, kw_only=True)
class ImageRequest(LTXRequest[ImageArguments]):
    """What a run of image to video is to do."""

    pixels: Tensor | None = None  # (pictures, 3, height, width)


@dataclass(frozen=True)
class ImageConditions:
    """What the video starts with, and what is said about it."""

    prompts: Prompts
    first_frame: Tensor | None  # normalised latents, (videos, channels, 1, height, width)


class LTXImageToVideoPipeline(LTXVideoPipeline):
    """Makes a video that begins with a given picture (arXiv:2501.00103, section 2.4)."""

    __call__ = call(ImageArguments, VideoOutput, "Generate videos from pictures.")

    def check(self, arguments: ImageArguments) -> ImageRequest:
        """The request that a call's completed arguments make."""
        request = self.checked(ImageRequest, arguments)
        image, latents = arguments.image, arguments.latents
        if (image is None) == (latents is None):
            given = "neither" if image is None else "both"
            raise ValueError(f"Image to video starts from image or from latents, {given} given; pass one of them.")
        if latents is not None:
            self.check_latents(latents, request)
            return request
        pixels = preprocess_image(image, request.size.height, request.size.width)
        check_count("pictures", pixels, request.num_prompts)
        return replace(request, pixels=pixels)

    def encode(self, session: Session[ImageRequest]) -> ImageConditions:
        """The prompts, and the latents of the first frame."""
        request = session.request
        prompts = self.encode_prompts(session)
        if request.pixels is None:
            return ImageConditions(prompts, None)
        # The reference rounds the picture to the type of the prompts.
        pixels = request.pixels.to(self.transformer.dtype)
        if len(pixels) > 1 or isinstance(session.generator, list):
            pixels = request.per_video(pixels)
        return ImageConditions(prompts, self.encode_video(pixels.unsqueeze(2), session))

    def steps(self, session: Session[ImageRequest], conditions: ImageConditions) -> Iterator[Step]:
        """Yield the latents after every step."""
        transformer, request = self.transformer, session.request
        latents = self._initial_latents(session, conditions.first_frame)
        rotary = self.rotary_table(request)
        frames = request.size.latent_size[0]
        is_given = torch.zeros(1, latents.shape[1], device=latents.device)  # (1, tokens)
        is_given[:, : latents.shape[1] // frames] = 1

        def predict(latents: Tensor, timestep: float, prompt: Any) -> Tensor:
            times = (timestep * (1 - is_given)).expand(len(latents), -1)  # (batch, tokens): the given frame is clean
            tokens = latents.to(transformer.dtype)
            return transformer(tokens, prompt, times, rotary=rotary, return_dict=False)[0].float()

        guidance = prompt_guidance(transformer, conditions.prompts, request.arguments)
        for step in session.denoise(predict, latents, self.start(request), guidance):
            step.latents = torch.where(is_given[..., None] > 0, step.before, step.latents)
            yield step

    def _initial_latents(self, session: Session[ImageRequest], first_frame: Tensor | None) -> Tensor:
        latents, device = session.request.arguments.latents, execution_device(self.transformer)
        if first_frame is not None:
            latents = draw_noise(self.latent_shape(session.request), session.generator, device)
            latents[:, :, :1] = first_frame.to(device)
        assert latents is not None, "the check sees that there is one of both"
        if latents.dim() == 5:
            latents = pack_latents(latents, *self.patches)
        return latents.to(device, torch.float32)
