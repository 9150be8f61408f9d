"""InstructPix2Pix: a picture changed by an instruction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.generation.denoising import denoise
from filmstrip.generation.events import Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.guidance import TwoConditions, Unguided
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.request import Request, check_count
from filmstrip.generation.running import Report, result
from filmstrip.media.pixels import preprocess_image
from filmstrip.memory.residency import execution_device
from filmstrip.models.stable_diffusion.common import ImageOutput, StableDiffusionBase, own_size
from filmstrip.nn.attention_layers import remembering_prompts
from filmstrip.schedulers import Run

CALLBACK_TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds", "image_latents")


@dataclass(frozen=True)
class Instructions:
    """What a run is conditioned on."""

    prompts: Prompts
    latents: Tensor  # of the pictures to change, not scaled, (batch, channels, height, width)


class StableDiffusionInstructPix2PixPipeline(StableDiffusionBase):
    """Changes a picture as an instruction says (arXiv:2211.09800)."""

    family_defaults: ClassVar[dict[str, Any]] = {**StableDiffusionBase.family_defaults, "num_inference_steps": 100}

    _callback_tensor_inputs: ClassVar[tuple[str, ...]] = CALLBACK_TENSORS
    _latents_per_call: ClassVar[int] = 2

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        image: Any = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float = 1.5,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        generator: Any = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        ip_adapter_image: Any = None,
        ip_adapter_image_embeds: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        sequential_guidance: bool | None = None,
        long_prompts: bool = False,
    ) -> ImageOutput | tuple[Any, ...]:
        """Change pictures. The arguments are those of `StableDiffusionPipeline`, and:

        Args:
            prompt: the instruction, such as "make it snowy".
            image: the picture to change; a list has one for each prompt. Its sides are rounded down to multiples of 8.
                Latents that the autoencoder has made of pictures, not scaled, are taken as well.
            image_guidance_scale: how closely to keep to it, from 1 up; used when `guidance_scale` is above 1.

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        if values["image"] is None:
            raise ValueError("InstructPix2Pix changes a picture, and none was given; pass it as image.")
        check_image_scale(values["image_guidance_scale"])
        image, ratio = values["image"], self.vae.spatial_compression_ratio
        if isinstance(image, Tensor) and image.dim() == 4 and image.shape[1] == self.vae.config.latent_channels:
            height, width = (side * ratio for side in image.shape[2:])
            name, pictures = "image_latents", image
        else:
            height, width = own_size(image, ratio)
            name, pictures = "pixels", preprocess_image(image, height, width)
        request = self.check_call({**values, "height": height, "width": width})
        check_count("pictures", pictures, request.num_prompts)
        return request.with_options(**{name: pictures})

    def encode(self, request: Request, report: Report) -> Instructions:
        """The instructions, and the latents of the pictures."""
        latents = request.options.get("image_latents")
        if latents is None:
            latents = encode_pictures(self.vae, request["pixels"])
        pictures = request.per_video(latents).to(execution_device(self.unet), torch.float32)
        return Instructions(self.encode_prompts(request, report), pictures)

    def steps(self, request: Request, conditions: Instructions) -> Iterator[Step]:
        """Yield the latents after every step."""
        run = self.start(request)
        yield from change(self.unet, request, conditions, self.initial_noise(request, run), run)


def check_image_scale(scale: float) -> None:
    """See that a scale of the guidance by pictures makes sense."""
    if scale < 1:
        raise ValueError(f"image_guidance_scale must be at least 1, got {scale}.")


def encode_pictures(vae: Any, pixels: Tensor) -> Tensor:
    """The latents of pictures that are to be changed, which are not scaled."""
    latents: Tensor = vae.encode(pixels.to(execution_device(vae), vae.dtype)).latent_dist.mode().float()
    return check_finite(latents, "vae", "encoding")


def change(unet: Any, request: Request, conditions: Instructions, latents: Tensor, run: Run) -> Iterator[Step]:
    """Yield the latents, (batch, channels, height, width), after every step."""

    @remembering_prompts
    def predict(latents: Tensor, timestep: float, given: tuple[Tensor, Tensor]) -> Tensor:
        prompt_embeds, pictures = given
        stacked = torch.cat([latents, pictures], dim=1).to(unet.dtype)
        kwargs = {"cross_attention_kwargs": request.options.get("cross_attention_kwargs"), "return_dict": False}
        return unet(stacked, timestep, prompt_embeds.to(execution_device(unet), unet.dtype), **kwargs)[0].float()

    guidance = _guidance(request, conditions)

    def guided(predict: Any, latents: Tensor, timestep: float) -> Tensor:
        return guidance(predict, latents, timestep)

    for step in denoise(
        predict, latents, run, guided, generator=request.generator, keeper=request.keeper, network="unet"
    ):
        offered = {**conditions.prompts.tensors, "image_latents": conditions.latents}
        step.tensors.update(offered)
        yield step
        if any(tensor is not offered[name] for name, tensor in step.tensors.items()):
            embeds: dict[str, Any] = {name: one for name, one in step.tensors.items() if name != "image_latents"}
            conditions = Instructions(replace(conditions.prompts, **embeds), step.tensors["image_latents"])
            guidance = _guidance(request, conditions)


def _guidance(request: Request, conditions: Instructions) -> Unguided[Any] | TwoConditions[Any]:
    positive, negative = conditions.prompts.prompt_embeds, conditions.prompts.negative_prompt_embeds
    picture, nothing = conditions.latents, torch.zeros_like(conditions.latents)
    if negative is None:
        return Unguided((positive, picture))
    scales = request["guidance_scale"], request["image_guidance_scale"]
    if request["sequential_guidance"]:
        return TwoConditions(*scales, (positive, picture), (negative, picture), (negative, nothing))
    joint = torch.cat([positive, negative.to(positive.device), negative.to(positive.device)])
    return TwoConditions(*scales, joint=(joint, torch.cat([picture, picture, nothing])))
