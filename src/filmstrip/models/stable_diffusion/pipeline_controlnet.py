"""Stable Diffusion with ControlNet: text and control pictures to picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from filmstrip.checks import check_count
from filmstrip.generation.arguments import Prompted, Sampled, Sized, argument, call
from filmstrip.generation.events import Step
from filmstrip.generation.session import Session
from filmstrip.media.pixels import preprocess_image
from filmstrip.memory.residency import execution_device
from filmstrip.models.stable_diffusion.arguments import (
    ImageOutput,
    PictureConditions,
    Pictured,
    PictureRequest,
    Scheduled,
    Skipping,
    own_size,
)
from filmstrip.models.stable_diffusion.common import StableDiffusionBase
from filmstrip.models.stable_diffusion.controlling import Controlled, Controlling, MultiControlNetModel, Strengths
from filmstrip.models.stable_diffusion.controlnet import ControlNetModel
from filmstrip.records import record
from filmstrip.roles import uncompiled


@dataclass(frozen=True, eq=False)
class ControlPicture(Prompted):
    """The picture to follow, after the prompt."""

    image: Any = argument(
        "the control picture; a list has one for each prompt. With several ControlNets, a list with one for each of "
        "them, or for each prompt a list of those. Without `height` and `width`, the size is its own.",
        role="picture",
    )


@record("stable diffusion control arguments")
@dataclass(frozen=True, eq=False)
class ControlArguments(Controlled, Pictured, Skipping, Scheduled, Sampled, Sized, ControlPicture):
    """What control by pictures takes."""


@record("stable diffusion control request")
@dataclass(frozen=True, eq=False, kw_only=True)
class ControlRequest(PictureRequest[Controlled]):
    """What a run with ControlNets is to do."""

    strengths: Strengths
    shown: list[Tensor] | None = None
    """What each ControlNet is shown, in [0, 1]: (rows, channels, height, width), or clips, frames after channels."""


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
        )
        is_many = isinstance(controlnet, (list, tuple))
        self.components["controlnet"] = MultiControlNetModel(controlnet) if is_many else controlnet

    @property
    def nets(self) -> list[Any]:
        """The ControlNets."""
        many = isinstance(uncompiled(self.controlnet), MultiControlNetModel)
        return list(self.controlnet.nets) if many else [self.controlnet]

    def check_components(self) -> None:
        """See that the networks were made for one another."""
        super().check_components()
        for net in self.nets:
            if not isinstance(uncompiled(net), ControlNetModel):
                raise ValueError(f"controlnet must be a ControlNetModel, got a {type(net).__name__}.")
            for name in ("in_channels", "cross_attention_dim", "block_out_channels"):
                theirs, ours = net.config[name], self.unet.config[name]
                if list(_items(theirs)) != list(_items(ours)):
                    raise ValueError(f"the ControlNet was made for another U-Net: its {name} is {theirs}, not {ours}.")

    def controlling(self, session: Session[ControlRequest], nets: Sequence[Any], timesteps: list[float]) -> Controlling:
        """What the U-Net is given of the ControlNets, or of others in their place, in a run."""
        request = session.request
        return Controlling(nets, request.strengths, timesteps, guess_mode=request.arguments.guess_mode)

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

    __call__ = call(ControlArguments, ImageOutput, "Generate pictures that follow others.")

    def usual_defaults(self) -> dict[str, Any]:
        """The family's defaults, without a size: that is the control picture's."""
        usual = super().usual_defaults()
        return {name: value for name, value in usual.items() if name not in ("height", "width")}

    def check(self, arguments: ControlArguments) -> ControlRequest:
        arguments.check()
        image = arguments.image
        if len(self.nets) > 1 and isinstance(image, (list, tuple)) and all(isinstance(one, list) for one in image):
            image = [list(pictures) for pictures in zip(*image, strict=True)]  # given prompt by prompt
        given = self.given_to_nets("image", image)
        height, width = own_size(given[0], self.vae.spatial_compression_ratio)
        size = (
            height if arguments.height is None else arguments.height,
            width if arguments.width is None else arguments.width,
        )
        strengths = arguments.strengths(len(self.nets))
        request = self.checked(ControlRequest, arguments, size, strengths=strengths)
        # Control pictures are in [0, 1].
        pictures = [preprocess_image(one, *size) * 0.5 + 0.5 for one in given]
        for picture in pictures:
            check_count("control pictures", picture, request.num_prompts)
        return replace(request, shown=pictures)

    def encode(self, session: Session[ControlRequest]) -> PictureConditions:
        """The prompts, and the control pictures, one row for each picture to make."""
        request, device = session.request, execution_device(self.unet)
        shown = [request.per_video(picture).to(device, self.nets[0].dtype) for picture in request.shown or ()]
        follows = (True,) * request.num_videos
        return replace(self.encode_prompts(session), pictures=shown, follows=follows)

    def steps(self, session: Session[ControlRequest], conditions: PictureConditions) -> Iterator[Step]:
        """Yield the latents after every step."""
        run = self.start(session.request)
        control = self.controlling(session, self.nets, run.timesteps.tolist())
        split = control.split(session.request.arguments)
        yield from self.sample(session, conditions, self.initial_noise(session, run), run, control, split=split)
