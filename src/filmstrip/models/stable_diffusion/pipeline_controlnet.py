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
from filmstrip.memory.residency import execution_device
from filmstrip.models.stable_diffusion.common import ImageOutput, StableDiffusionBase, own_size
from filmstrip.models.stable_diffusion.controlling import Controlling, MultiControlNetModel, per_net
from filmstrip.models.stable_diffusion.controlnet import ControlNetModel


@dataclass(frozen=True)
class ControlledPrompts:
    """What a run is conditioned on."""

    prompts: Prompts
    pictures: list[Tensor]  # for each net, (batch, channels, height, width) in [0, 1]


class ControlledBase(StableDiffusionBase):
    """Components of Stable Diffusion with one ControlNet or several (arXiv:2302.05543), and checks of control."""

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

    @property
    def nets(self) -> list[Any]:
        """The ControlNets."""
        many = isinstance(self.controlnet, MultiControlNetModel)
        return list(self.controlnet.nets) if many else [self.controlnet]

    def check_components(self) -> None:
        """See that the networks were made for one another."""
        super().check_components()
        for net in self.nets:
            if not isinstance(net, ControlNetModel):
                raise ValueError(f"controlnet must be a ControlNetModel, got a {type(net).__name__}.")
            for name in ("in_channels", "cross_attention_dim", "block_out_channels"):
                theirs, ours = net.config[name], self.unet.config[name]
                if list(_items(theirs)) != list(_items(ours)):
                    raise ValueError(f"the ControlNet was made for another U-Net: its {name} is {theirs}, not {ours}.")

    def checked_control(self, values: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call, those of control as one value for each ControlNet."""
        names = ("control_guidance_start", "control_guidance_end", "controlnet_conditioning_scale")
        control = {name: per_net(name, values[name], len(self.nets)) for name in names}
        for start, end in zip(control[names[0]], control[names[1]], strict=True):
            if check_share(names[0], start) >= check_share(names[1], end):
                raise ValueError(f"control_guidance_start must be below control_guidance_end, got {start} and {end}.")
        return {**values, **control}

    def given_to_nets(self, name: str, given: Any) -> list[Any]:
        """What each ControlNet is given.

        Args:
            name: of the argument, whose value is for the only net, or has one entry for each of several.
        """
        if given is None:
            raise ValueError(f"ControlNet follows what it is shown, and nothing was given; pass it as {name}.")
        if len(self.nets) == 1:
            return [given]
        if not isinstance(given, (list, tuple)) or len(given) != len(self.nets):
            count = len(given) if isinstance(given, (list, tuple)) else 1
            raise ValueError(f"{name} has {count} entries for {len(self.nets)} ControlNets; give one for each.")
        return list(given)


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


class StableDiffusionControlNetPipeline(ControlledBase):
    """Makes a picture from a text that follows the edges, poses or depths of another one (arXiv:2302.05543)."""

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
        ip_adapter_image: Any = None,
        ip_adapter_image_embeds: Any = None,
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
        sequential_guidance: bool | None = None,
        long_prompts: bool = False,
    ) -> ImageOutput | tuple[Any, ...]:
        """Generate pictures. The arguments are those of `StableDiffusionPipeline`, and:

        Args:
            image: the control picture; a list has one for each prompt. With several ControlNets, a list with one for
                each of them, or for each prompt a list of those. Without `height` and `width`, the size is its own.
            controlnet_conditioning_scale: how strongly the control counts; a list has one for each ControlNet.
            guess_mode: control the prediction for the prompt only, and less where the resolution is high.
            control_guidance_start, control_guidance_end: the share of the steps from and up to which it counts.

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def usual_defaults(self) -> dict[str, Any]:
        """The family's defaults, without a size: that is the control picture's."""
        usual = super().usual_defaults()
        return {name: value for name, value in usual.items() if name not in ("height", "width")}

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        image = values["image"]
        if len(self.nets) > 1 and isinstance(image, (list, tuple)) and all(isinstance(one, list) for one in image):
            image = [list(pictures) for pictures in zip(*image, strict=True)]  # given prompt by prompt
        given = self.given_to_nets("image", image)
        height, width = own_size(given[0], self.vae.spatial_compression_ratio)
        size = {
            name: values[name] if values[name] is not None else own
            for name, own in (("height", height), ("width", width))
        }
        request = self.check_call(self.checked_control({**values, **size}))
        # Control pictures are in [0, 1].
        pictures = [preprocess_image(one, **size) * 0.5 + 0.5 for one in given]
        for picture in pictures:
            check_count("control pictures", picture, request.num_prompts)
        return request.with_options(pictures=pictures)

    def encode(self, request: Request, report: Report) -> ControlledPrompts:
        """The prompts, and the control pictures, one row for each picture to make."""
        device = execution_device(self.unet)
        pictures = [request.per_video(picture).to(device, self.nets[0].dtype) for picture in request["pictures"]]
        return ControlledPrompts(self.encode_prompts(request, report), pictures)

    def steps(self, request: Request, conditions: ControlledPrompts) -> Iterator[Step]:
        """Yield the latents after every step."""
        run = self.start(request)
        latents = self.initial_noise(request, run)
        control = Controlling(self.nets, conditions.pictures, request, run.timesteps.tolist())
        yield from self.sample(request, conditions.prompts, latents, run, control)
