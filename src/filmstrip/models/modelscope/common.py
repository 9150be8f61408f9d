"""What the pipelines of ModelScope share: arguments, rules, sampling of videos and their decoding frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.generation.arguments import OUTPUT_TYPES, Embedded, Noised, Repeated, argument
from filmstrip.generation.calling_back import CalledBack
from filmstrip.generation.events import Step
from filmstrip.generation.output import Report, VideoOutput
from filmstrip.generation.resolve import Rules
from filmstrip.generation.session import Session
from filmstrip.memory.coding import Coding
from filmstrip.memory.residency import execution_device
from filmstrip.models.modelscope.unet import UNet3DConditionModel
from filmstrip.models.stable_diffusion.arguments import PictureConditions, PictureRequest, Processed, Skipping
from filmstrip.models.stable_diffusion.autoencoder import AutoencoderKL
from filmstrip.models.stable_diffusion.common import StableDiffusionBase
from filmstrip.schedulers import Run
from filmstrip.schedulers.runs import FramesFirst


@dataclass(frozen=True, eq=False)
class ModelScopeArguments(CalledBack, Skipping, Processed, Embedded, Repeated, Noised):
    """What both pipelines of ModelScope take."""

    _: KW_ONLY
    output_type: str = argument(
        '"np", "pil", "pt", "uint8" or "latent"; see `VideoOutput`.', "np", choices=OUTPUT_TYPES
    )
    latents: Tensor | None = argument("the initial noise, (batch, channels, frames, height / 8, width / 8).")


class ModelScopeBase(StableDiffusionBase):
    """Components of ModelScope (arXiv:2308.06571), and the parts of its recipes that do not differ.

    Text encoder and autoencoder are those of Stable Diffusion 2.
    """

    unet: UNet3DConditionModel  # type: ignore[assignment]
    family_defaults: ClassVar[dict[str, Any]] = {"num_inference_steps": 50, "frame_rate": 8}
    _optional_components: ClassVar[tuple[str, ...]] = ()
    _left_out: ClassVar[tuple[str, ...]] = ()
    _frame_dim: ClassVar[int | None] = 2

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, scheduler: Any) -> None:
        super(StableDiffusionBase, self).__init__(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
        )

    @property
    def rules(self) -> Rules:
        """The sizes and lengths that these components can make: any length."""
        return replace(super().rules, title="ModelScope")

    def start(self, request: PictureRequest[Any]) -> Run:
        """The run's own schedule."""
        return FramesFirst(super().start(request))

    def latent_shape(self, request: PictureRequest[Any]) -> tuple[int, ...]:
        """Batch, channels, frames, height and width of the latents."""
        batch, channels, *size = super().latent_shape(request)
        return (batch, channels, request.size.num_frames, *size)

    def told(
        self, session: Session[Any], conditions: PictureConditions, latents: Tensor, run: Run, begin: int = 0
    ) -> Iterator[Step]:
        """Yield the latents after every step from `begin` on, and show them to the older kind of callback."""
        for step in self.sample(session, conditions, latents, run, span=(begin, None)):
            yield step
            session.request.arguments.call_back(step)

    def decode(
        self, session: Session[Any], vae: AutoencoderKL, latents: Tensor, coding: Coding | None
    ) -> Iterator[Tensor]:
        """Yield the videos in runs of frames, (batch, 3, frames, height, width)."""
        yield from decoded_videos(vae, latents, coding)

    def output(self, frames: Any, report: Report) -> Any:
        """The videos of a run."""
        return VideoOutput(frames, report)


def decoded_videos(
    vae: AutoencoderKL, latents: Tensor, coding: Coding | None, most: int | None = None
) -> Iterator[Tensor]:
    """Yield videos in runs of frames, (batch, 3, frames, height, width), by an autoencoder of pictures.

    Args:
        latents: (batch, channels, frames, height / 8, width / 8), scaled.
        most: pictures to decode at a time; None: as many as the autoencoder takes.
    """
    latents = (latents / vae.config.scaling_factor).to(execution_device(vae), vae.dtype)
    batch = len(latents)
    frames = latents.permute(2, 0, 1, 3, 4).flatten(0, 1)  # (frames * batch, channels, height, width)
    waiting: list[Tensor] = []
    for some in frames.split(most or len(frames)):
        for part in vae.decode_stream(some, coding=coding):
            pictures = torch.cat([*waiting, part]) if waiting else part
            whole = len(pictures) // batch * batch  # a frame is given when it is there for all videos
            waiting = [pictures[whole:]] if whole < len(pictures) else []
            if whole:
                yield pictures[:whole].unflatten(0, (-1, batch)).permute(1, 2, 0, 3, 4)
