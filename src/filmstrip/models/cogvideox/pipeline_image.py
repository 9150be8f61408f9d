"""CogVideoX: image to video."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch.nn.functional as F

from filmstrip.checks import check_count, known
from filmstrip.generation.arguments import Arguments, argument, call
from filmstrip.generation.output import VideoOutput
from filmstrip.media.pixels import preprocess_image
from filmstrip.models.cogvideox.common import AnySession, CogVideoXRequest, CogVideoXVideoPipeline, Conditions
from filmstrip.models.cogvideox.pipeline_text import TextArguments
from filmstrip.records import record


@dataclass(frozen=True, eq=False)
class FirstFrame(Arguments):
    """The picture that a video begins with."""

    image: Any = argument(
        "the first frame: a picture, an array or a tensor; a list has one for each prompt. It is resized.",
        role="picture",
    )


@record("cogvideox image arguments")
@dataclass(frozen=True, eq=False)
class ImageArguments(TextArguments, FirstFrame):
    """What image to video takes."""


class CogVideoXImageToVideoPipeline(CogVideoXVideoPipeline):
    """Makes a video that begins with a given picture."""

    latents_per_channel: ClassVar[int] = 2
    condition_word: ClassVar[str] = "latents and a picture"

    __call__ = call(ImageArguments, VideoOutput, "Generate videos from pictures.")

    def check(self, arguments: ImageArguments) -> CogVideoXRequest[ImageArguments]:
        if arguments.image is None:
            raise ValueError("Image to video needs an image, and none was given; pass the first frame as image.")
        request = self.checked(arguments, known(arguments.num_frames))
        pixels = preprocess_image(arguments.image, request.size.height, request.size.width)
        check_count("pictures", pixels, request.num_prompts)
        return replace(request, pixels=pixels)

    def encode(self, session: AnySession) -> Conditions:
        """The prompts, and the latents of the picture, alone in an otherwise empty video."""
        request = session.request
        prompts = self.encode_prompts(session)
        pixels = known(request.pixels).unsqueeze(2)  # (pictures, 3, 1, height, width)
        if len(pixels) > 1 or isinstance(session.generator, list):
            pixels = request.per_video(pixels)
        picture = self.encode_video(pixels, session)
        scale = self.vae.config.scaling_factor
        # The networks of 1.5 were trained on latents divided by the factor.
        picture = picture / scale if self.vae.config.invert_scale_latents else picture * scale
        empty_frames = request.size.latent_size[0] - 1
        latents = F.pad(picture, (0, 0, 0, 0, 0, 0, 0, empty_frames))  # (rows, frames, channels, height, width)
        return Conditions.of(prompts, beside=latents.expand(request.num_videos, -1, -1, -1, -1))
