"""What calls of Stable Diffusion take, what their requests are, and what their networks are conditioned on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from filmstrip.checks import known
from filmstrip.generation.arguments import Embedded, Prompted, Sampled, Sized, argument
from filmstrip.generation.output import Report
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.request import Request
from filmstrip.generation.session import Session
from filmstrip.media.pixels import picture_size
from filmstrip.outputs import Output
from filmstrip.records import record


@dataclass(frozen=True, eq=False)
class PictureArguments(Sampled, Prompted):
    """What all pipelines of Stable Diffusion take."""

    _: KW_ONLY
    latents: Tensor | None = argument("the initial noise, (batch, channels, height / 8, width / 8).")
    eta: float = argument(
        "with a DDIM scheduler, how much fresh noise each step adds, from 0 to 1 (arXiv:2010.02502).", 0.0
    )
    long_prompts: bool = argument(
        "encode prompts beyond the text encoder's window in parts, in place of cutting them off.", False
    )

    @property
    def own_schedule(self) -> dict[str, Sequence[float]]:
        """The call's own timesteps or sigmas, by the name of the argument, if it takes and has such."""
        return {}

    @property
    def layers_left_out(self) -> int | None:
        """Of the text encoder, if the call says."""
        return None

    @property
    def for_processors(self) -> Mapping[str, Any] | None:
        """What the processors of attention layers are handed."""
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class Scheduled(PictureArguments):
    """A schedule of one's own."""

    timesteps: Sequence[int] | None = argument("a falling schedule of one's own, with schedulers that take one.")
    sigmas: Sequence[float] | None = argument("the same as noise levels.")

    @property
    def own_schedule(self) -> dict[str, Sequence[float]]:
        """The call's own timesteps or sigmas."""
        given = {"timesteps": self.timesteps, "sigmas": self.sigmas}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, eq=False, kw_only=True)
class Skipping(PictureArguments):
    """Text encoders cut short."""

    clip_skip: int | None = argument("how many of the text encoder's last layers are left out.")

    @property
    def layers_left_out(self) -> int | None:
        """Of the text encoder."""
        return self.clip_skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Processed(PictureArguments):
    """Attention processors of one's own."""

    cross_attention_kwargs: Mapping[str, Any] | None = argument(
        "handed to the processors of the U-Net's attention layers."
    )

    @property
    def for_processors(self) -> Mapping[str, Any] | None:
        """What the processors of attention layers are handed."""
        return self.cross_attention_kwargs


@dataclass(frozen=True, eq=False, kw_only=True)
class Pictured(Embedded, Processed):
    """What pipelines that make pictures take."""

    num_images_per_prompt: int = argument("pictures for each prompt, which differ in their noise.", 1, range="count")
    ip_adapter_image: Any = argument("refused; there are no IP-Adapters here.")
    ip_adapter_image_embeds: Any = argument("refused, too.")

    @property
    def videos_per_prompt(self) -> tuple[str, int]:
        """The name of the argument that says how many there are of each prompt, and its value."""
        return "num_images_per_prompt", self.num_images_per_prompt

    def check(self) -> None:
        """See that nothing is given that can't have an effect."""
        for name in ("ip_adapter_image", "ip_adapter_image_embeds"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} has no effect: there are no IP-Adapters here; drop it.")


P = TypeVar("P", bound=PictureArguments, covariant=True)


@record("stable diffusion request")
@dataclass(frozen=True, eq=False, kw_only=True)
class PictureRequest(Request[P]):
    """What a run of Stable Diffusion is to do."""


RequestType = TypeVar("RequestType", bound=PictureRequest[Any])
AnySession = Session[PictureRequest[PictureArguments]]


@dataclass(frozen=True)
class PictureConditions(Prompts):
    """What a run is conditioned on: its prompts, sizes that some networks are told, and pictures to follow."""

    sizes: Tensor | None = None  # (batch, numbers)
    pictures: list[Tensor] | None = None  # for each ControlNet, (batch, channels, height, width) in [0, 1]
    follows: tuple[bool, ...] = ()
    """For each row whether it follows those pictures."""


Control = Callable[[Tensor, int, PictureConditions], Mapping[str, Any]]
"""From latents, the index of the step and what they are conditioned on, further arguments of the U-Net."""


@dataclass
class ImageOutput(Output):
    """The pictures of a run, by the call's output_type as the frames of a video are; a list of pictures for "pil"."""

    images: Any
    nsfw_content_detected: list[bool] | None = None
    """None: pictures are not judged here."""
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        super().__post_init__()
        del self["report"]  # code that unpacks the result expects the pictures alone


def asked_size(sized: Sized) -> tuple[int, int]:
    """Height and width of a call, completed."""
    return known(sized.height), known(sized.width)


def own_size(image: Any, multiple: int) -> tuple[int, int]:
    """Height and width of a picture, or of the first of several, rounded down to what the model can make."""
    height, width = (max(side // multiple, 1) * multiple for side in picture_size(image))
    return height, width
