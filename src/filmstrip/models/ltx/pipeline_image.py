"""LTX-Video: image to video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from filmstrip.checks import check_count, check_one_of
from filmstrip.generation.arguments import Arguments, argument, call
from filmstrip.generation.events import Step
from filmstrip.generation.output import VideoOutput
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.session import Session
from filmstrip.media.pixels import preprocess_image
from filmstrip.models.ltx.common import LTXArguments, LTXRequest, LTXVideoPipeline, prompt_guidance
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


Conditions = tuple[Prompts, Tensor | None]
"""What is said, and what the video begins with: normalised latents, (videos, channels, 1, height, width)."""


class LTXImageToVideoPipeline(LTXVideoPipeline):
    """Makes a video that begins with a given picture (arXiv:2501.00103, section 2.4)."""

    __call__ = call(ImageArguments, VideoOutput, "Generate videos from pictures.")

    def check(self, arguments: ImageArguments) -> ImageRequest:
        request = self.checked(ImageRequest, arguments)
        image, latents = arguments.image, arguments.latents
        check_one_of("Image to video", image=image, latents=latents)
        if latents is not None:
            self.check_latents(latents, request)
            return request
        pixels = preprocess_image(image, request.size.height, request.size.width)
        check_count("pictures", pixels, request.num_prompts)
        return replace(request, pixels=pixels)

    def encode(self, session: Session[ImageRequest]) -> Conditions:
        """The prompts, and the latents of the first frame."""
        request = session.request
        prompts = self.encode_prompts(session)
        if request.pixels is None:
            return prompts, None
        # The reference rounds the picture to the type of the prompts.
        pixels = request.pixels.to(self.transformer.dtype)
        if len(pixels) > 1 or isinstance(session.generator, list):
            pixels = request.per_video(pixels)
        return prompts, self.encode_video(pixels.unsqueeze(2), session)

    def steps(self, session: Session[ImageRequest], conditions: Conditions) -> Iterator[Step]:
        """Yield the latents after every step."""
        prompts, first_frame = conditions
        transformer, request = self.transformer, session.request
        latents = self.initial_latents(session, first_frame)
        rotary = self.rotary_table(request)
        frames = request.size.latent_size[0]
        is_given = torch.zeros(1, latents.shape[1], device=latents.device)  # (1, tokens)
        is_given[:, : latents.shape[1] // frames] = 1

        def predict(latents: Tensor, timestep: float, prompt: Any) -> Tensor:
            times = (timestep * (1 - is_given)).expand(len(latents), -1)  # (batch, tokens): the given frame is clean
            tokens = latents.to(transformer.dtype)
            return transformer(tokens, prompt, times, rotary=rotary, return_dict=False)[0].float()

        guidance = prompt_guidance(transformer, prompts, request.arguments)
        for step in session.denoise(predict, latents, self.start(request), guidance):
            step.latents = torch.where(is_given[..., None] > 0, step.before, step.latents)
            yield step
