"""Stable Diffusion: text to picture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from filmstrip.configuration import Config
from filmstrip.generation.events import Step
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.request import Request
from filmstrip.generation.running import Report, result
from filmstrip.models.stable_diffusion.common import ImageOutput, StableDiffusionBase

logger = logging.getLogger(__name__)


class StableDiffusionPipeline(StableDiffusionBase):
    """Makes a picture from a text (arXiv:2112.10752).

    Schedulers with the settings of the first releases get those of today: `steps_offset=1`, `clip_sample=False`.
    """

    def __init__(
        self,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        unet: Any,
        scheduler: Any,
        safety_checker: Any = None,
        feature_extractor: Any = None,
        image_encoder: Any = None,
        requires_safety_checker: bool = False,
    ) -> None:
        super().__init__(
            vae,
            text_encoder,
            tokenizer,
            unet,
            _mended(scheduler),
            safety_checker,
            feature_extractor,
            image_encoder,
            requires_safety_checker,
        )

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        guidance_scale: float | None = None,
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
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        guidance_rescale: float = 0.0,
        clip_skip: int | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        sequential_guidance: bool | None = None,
        long_prompts: bool = False,
    ) -> ImageOutput | tuple[Any, ...]:
        """Generate pictures. Arguments that are None take the checkpoint's or the family's default.

        Args:
            prompt: what the picture shows; a list makes a batch.
            height, width: in pixels, multiples of 8; by default what the U-Net was trained for.
            num_inference_steps: more steps, more detail, more time.
            timesteps, sigmas: a falling schedule of one's own, with schedulers that take one.
            guidance_scale: how strongly to follow the prompt (arXiv:2207.12598); 1 is not at all, at half the cost.
            negative_prompt: what it does not show; used when `guidance_scale` is above 1.
            num_images_per_prompt: pictures for each prompt, which differ in their noise.
            eta: with a DDIM scheduler, how much fresh noise each step adds, from 0 to 1 (arXiv:2010.02502).
            generator: source of all randomness; a list has one for each picture.
            latents: the initial noise, (batch, channels, height / 8, width / 8).
            prompt_embeds, negative_prompt_embeds: from `encode_prompt`, in place of texts.
            ip_adapter_image, ip_adapter_image_embeds: refused; there are no IP-Adapters here.
            output_type: "pil", "np", "pt", "uint8" or "latent"; see `ImageOutput`.
            return_dict: whether to return an `ImageOutput` and not a tuple.
            cross_attention_kwargs: handed to the processors of the U-Net's attention layers.
            guidance_rescale: from 0 to 1, against overexposure (arXiv:2305.08891, section 3.4).
            clip_skip: how many of the text encoder's last layers are left out.
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after every step; what it returns
                under a tensor's name replaces that tensor. Setting `pipeline._interrupt` ends the denoising.
            callback_on_step_end_tensor_inputs: the tensors it is given.
            sequential_guidance: run the network for the prompt and against it in turn: less memory, more time; None: as
                `fit` chose, else together.
            long_prompts: encode prompts beyond the text encoder's window in parts, in place of cutting them off.

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        return self.check_call(values)

    def encode(self, request: Request, report: Report) -> Prompts:
        """The prompts of a request."""
        return self.encode_prompts(request, report)

    def steps(self, request: Request, conditions: Prompts) -> Iterator[Step]:
        """Yield the latents after every step."""
        run = self.start(request)
        yield from self.sample(request, conditions, self.initial_noise(request, run), run)


def _mended(scheduler: Any) -> Any:
    """The scheduler, or one that differs in the settings which files of the first releases have wrong or not at all."""
    config = getattr(scheduler, "config", Config({}))
    wanted = {"steps_offset": 1, "clip_sample": False}
    mended = {name: value for name, value in wanted.items() if config.get(name, value) != value}
    if not mended:
        return scheduler
    settings = " and ".join(f"{name}={value}" for name, value in mended.items())
    logger.warning("The scheduler's settings are those of an early release; used instead: %s.", settings)
    other = type(scheduler).from_config(config, **mended)
    # As in the reference, what the files did not say is for the next class to decide, if the scheduler is swapped.
    other.config = Config(other.config, config.keys() - config.chosen().keys(), config.foreign())
    return other
