"""InstructPix2Pix: a picture changed by an instruction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.checks import check_count, known
from filmstrip.generation.arguments import Prompted, Sampled, Texts, argument, call
from filmstrip.generation.beginning import posterior_of
from filmstrip.generation.events import Step
from filmstrip.generation.guidance import Guidance, Rule, TwoConditions
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.session import Session
from filmstrip.media.pixels import preprocess_image
from filmstrip.memory.residency import execution_device
from filmstrip.models.stable_diffusion.arguments import (
    ImageOutput,
    PictureArguments,
    Pictured,
    PictureRequest,
    own_size,
)
from filmstrip.models.stable_diffusion.common import StableDiffusionBase
from filmstrip.nn.attention_layers import remembering_prompts
from filmstrip.randomness import Generators
from filmstrip.records import record
from filmstrip.schedulers import Run

CALLBACK_TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds", "image_latents")


@dataclass(frozen=True, eq=False, kw_only=True)
class Instructed(PictureArguments):
    """Guidance by what is changed, beside that by the instruction."""

    image_guidance_scale: float = argument(
        "how closely to keep to what is changed, from 1 up; used with guidance.", 1.5
    )

    def check_image_scale(self) -> None:
        """See that the scale of the guidance by pictures makes sense."""
        if self.image_guidance_scale < 1:
            raise ValueError(f"image_guidance_scale must be at least 1, got {self.image_guidance_scale}.")


@dataclass(frozen=True, eq=False)
class Changed(Prompted):
    """The picture to change, after the instruction."""

    prompt: Texts | None = argument('the instruction, such as "make it snowy".', role="text", instead="prompt_embeds")
    image: Any = argument(
        "the picture to change; a list has one for each prompt. Its sides are rounded down to multiples of 8. Latents "
        "that the autoencoder has made of pictures, not scaled, are taken as well.",
        role="picture",
    )


@record("pix2pix arguments")
@dataclass(frozen=True, eq=False)
class ChangeArguments(Instructed, Pictured, Sampled, Changed):
    """What a change by an instruction takes."""


@record("pix2pix request")
@dataclass(frozen=True, eq=False, kw_only=True)
class ChangeRequest(PictureRequest[Instructed]):
    """What a change by an instruction is to do."""

    pixels: Tensor | None = None  # of pictures, (rows, 3, height, width), or of clips, with frames after channels
    image_latents: Tensor | None = None
    """In their place, latents that the autoencoder has made of them."""


@dataclass(frozen=True)
class Instructions(Prompts):
    """What a run is conditioned on: its instructions, and the latents of the pictures to change."""

    image_latents: Tensor | None = None  # not scaled, (batch, channels, height, width)


class StableDiffusionInstructPix2PixPipeline(StableDiffusionBase):
    """Changes a picture as an instruction says (arXiv:2211.09800)."""

    family_defaults: ClassVar[dict[str, Any]] = {**StableDiffusionBase.family_defaults, "num_inference_steps": 100}

    _callback_tensor_inputs: ClassVar[tuple[str, ...]] = CALLBACK_TENSORS
    _latents_per_call: ClassVar[int] = 2

    __call__ = call(ChangeArguments, ImageOutput, "Change pictures.")

    def check(self, arguments: ChangeArguments) -> ChangeRequest:
        arguments.check()
        if arguments.image is None:
            raise ValueError("InstructPix2Pix changes a picture, and none was given; pass it as image.")
        arguments.check_image_scale()
        image, ratio = arguments.image, self.vae.spatial_compression_ratio
        if isinstance(image, Tensor) and image.dim() == 4 and image.shape[1] == self.vae.config.latent_channels:
            size = image.shape[2] * ratio, image.shape[3] * ratio
            found: dict[str, Any] = {"image_latents": image}
        else:
            size = own_size(image, ratio)
            found = {"pixels": preprocess_image(image, *size)}
        request = self.checked(ChangeRequest, arguments, size, **found)
        check_count("pictures", next(iter(found.values())), request.num_prompts)
        return request

    def encode(self, session: Session[ChangeRequest]) -> Instructions:
        """The instructions, and the latents of the pictures."""
        request = session.request
        latents = request.image_latents
        if latents is None:
            latents = posterior_of(self.vae, known(request.pixels), session.coding).mode().float()
        pictures = request.per_video(latents).to(execution_device(self.unet), torch.float32)
        return Instructions.of(self.encode_prompts(session), image_latents=pictures)

    def steps(self, session: Session[ChangeRequest], conditions: Instructions) -> Iterator[Step]:
        """Yield the latents after every step."""
        run = self.start(session.request)
        yield from change(session, self.unet, conditions, self.initial_noise(session, run), run)


def change(
    session: Session[ChangeRequest],
    unet: Any,
    conditions: Instructions,
    latents: Tensor,
    run: Run,
    generator: Generators = None,
) -> Iterator[Step]:
    """Yield the latents, (batch, channels, height, width), after every step.

    Args:
        generator: in place of the session's.
    """
    arguments = session.request.arguments

    @remembering_prompts
    def predict(latents: Tensor, timestep: float, given: Instructions) -> Tensor:
        stacked = torch.cat([latents, known(given.image_latents)], dim=1).to(unet.dtype)
        kwargs = {"cross_attention_kwargs": arguments.for_processors, "return_dict": False}
        return unet(stacked, timestep, given.prompt_embeds, **kwargs)[0].float()

    def split(conditions: Instructions, scale: float) -> tuple[Rule | None, list[Instructions]]:
        both, second = conditions.positive, conditions.negative
        if not arguments.guides_at(scale) or second is None:
            return None, [both]
        none = replace(second, image_latents=torch.zeros_like(known(second.image_latents)))
        return TwoConditions(scale, arguments.image_guidance_scale), [both, second, none]

    def prepare(given: Instructions) -> Instructions:
        return replace(given, prompt_embeds=given.prompt_embeds.to(execution_device(unet), unet.dtype))

    guidance = Guidance(conditions, split, prepare, arguments.guidance, in_turn=arguments.sequential_guidance)
    yield from session.denoise(predict, latents, run, guidance, generator=generator, network="unet")
