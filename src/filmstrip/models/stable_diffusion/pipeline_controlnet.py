"""Stable Diffusion with ControlNet: text and control pictures to picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from filmstrip.generation.events import Step
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.request import Request, check_count, check_share
from filmstrip.generation.running import Report, result
from filmstrip.media.pixels import preprocess_image
from filmstrip.models.stable_diffusion.common import ImageOutput, StableDiffusionBase
from filmstrip.models.stable_diffusion.controlling import Controlling, MultiControlNetModel, per_net


@dataclass(frozen=True)
class ControlledPrompts:
    """What a run is conditioned on."""

    prompts: Prompts
    pictures: list[Tensor]  # for each net, (batch, channels, height, width) in [0, 1]


class StableDiffusionControlNetPipeline(StableDiffusionBase):
    """Makes a picture from a text that follows the edges, poses or depths of another one (arXiv:2302.05543)."""

    def __init__(
        self,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        unet: Any,
        controlnet: Any,
        scheduler: Any,
        safety_checker: Any = None,
        feature_extractor: Any = None,
        image_encoder: Any = None,
        requires_safety_checker: bool = False,
    ) -> None:
        if isinstance(controlnet, (list, tuple)):
            controlnet = MultiControlNetModel(controlnet)
        super().__init__(
            vae,
            text_encoder,
            tokenizer,
            unet,
            scheduler,
            safety_checker,
            feature_extractor,
            image_encoder,
            requires_safety_checker,
            controlnet=controlnet,
        )

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        image: Any = None,
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
        output_type: str = "pil",
        return_dict: bool = True,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        controlnet_conditioning_scale: float | Sequence[float] = 1.0,
        guess_mode: bool = False,
        control_guidance_start: float | Sequence[float] = 0.0,
        control_guidance_end: float | Sequence[float] = 1.0,
        clip_skip: int | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        sequential_guidance: bool = False,
        long_prompts: bool = False,
    ) -> ImageOutput | tuple[Any, ...]:
        """Generate pictures. The arguments are those of `StableDiffusionPipeline`, and:

        Args:
            image: the control picture; a list has one for each prompt. With several ControlNets, a list with what each
                of them is given. Without `height` and `width`, its size is the picture's.
            controlnet_conditioning_scale: how strongly the control counts; a list has one for each ControlNet.
            guess_mode: control the prediction for the prompt only, and less where the resolution is high.
            control_guidance_start, control_guidance_end: the share of the steps from and up to which it counts.

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    @property
    def nets(self) -> list[Any]:
        """The ControlNets."""
        many = isinstance(self.controlnet, MultiControlNetModel)
        return list(self.controlnet.nets) if many else [self.controlnet]

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        if values["image"] is None:
            raise ValueError("ControlNet needs a control picture, and none was given; pass it as image.")
        num_nets = len(self.nets)
        for name in ("control_guidance_start", "control_guidance_end", "controlnet_conditioning_scale"):
            values[name] = per_net(name, values[name], num_nets)
        for start, end in zip(values["control_guidance_start"], values["control_guidance_end"], strict=True):
            if check_share("control_guidance_start", start) >= check_share("control_guidance_end", end):
                raise ValueError(f"control_guidance_start must be below control_guidance_end, got {start} and {end}.")
        request = self.check_call(values)
        size = request.size.height, request.size.width
        given = [values["image"]] if num_nets == 1 else list(values["image"])
        if len(given) != num_nets:
            raise ValueError(f"{len(given)} control pictures were given for {num_nets} ControlNets; give one for each.")
        # Control pictures are in [0, 1].
        pictures = [preprocess_image(one, *size) * 0.5 + 0.5 for one in given]
        for picture in pictures:
            check_count("control pictures", picture, request.num_prompts)
        return request.with_options(pictures=pictures)

    def encode(self, request: Request, report: Report) -> ControlledPrompts:
        """The prompts, and the control pictures, one row for each picture to make."""
        device = self.unet.device
        pictures = [request.per_video(picture).to(device, self.nets[0].dtype) for picture in request["pictures"]]
        return ControlledPrompts(self.encode_prompts(request, report), pictures)

    def steps(self, request: Request, conditions: ControlledPrompts) -> Iterator[Step]:
        """Yield the latents after every step."""
        run = self.start(request)
        latents = self.initial_noise(request, run)
        control = Controlling(self.nets, conditions.pictures, request, run.timesteps.tolist())
        yield from self.sample(request, conditions.prompts, latents, run, control)
