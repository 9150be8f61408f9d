"""LTX-Video: pictures and clips at any frame of a video, each as strongly as wanted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.checks import check_share, known
from filmstrip.generation.arguments import Arguments, argument, call
from filmstrip.generation.beginning import drawn_noise
from filmstrip.generation.events import Step
from filmstrip.generation.output import VideoOutput
from filmstrip.generation.packing import unpack_latents
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.request import adjusted
from filmstrip.generation.session import Session
from filmstrip.memory.residency import execution_device
from filmstrip.models.ltx.common import LTXArguments, LTXRequest, LTXVideoPipeline, prompt_guidance
from filmstrip.models.ltx.conditions import (
    ConditionedLatents,
    LTXVideoCondition,
    clip_to_change,
    gather_conditions,
    place_conditions,
    read_conditions,
)
from filmstrip.randomness import draw_noise
from filmstrip.records import record
from filmstrip.schedulers import Run, linear_quadratic_schedule
from filmstrip.schedulers.flows import started

ALMOST = 1e-6


@dataclass(frozen=True, eq=False)
class Conditioned(Arguments):
    """Pictures and clips, where they stand, and how strongly they hold."""

    conditions: LTXVideoCondition | Sequence[LTXVideoCondition] | None = argument(
        "pictures and clips with their places and strengths; or, in place of it, the next four."
    )
    image: Any = argument("a picture, or a list of them.", role="picture")
    video: Any = argument(
        "a clip (frames), or a list of clips; it counts up to its last 8k + 1 frames that fit.", role="clip"
    )
    frame_index: int | Sequence[int] = argument(
        "the frame that a picture or clip stands at; a list has one for each, pictures first.", 0
    )
    strength: float | Sequence[float] = argument("from 0 (ignored) to 1 (kept as it is); a list as `frame_index`.", 1.0)
    denoise_strength: float = argument(
        "below 1, change a video: start from it with so much noise. It is given as `latents`, or as a `video` at frame "
        "0 that is as long as the one to make; that clip is then no condition.",
        1.0,
    )


@record("ltx condition arguments")
@dataclass(frozen=True, eq=False)
class ConditionArguments(LTXArguments, Conditioned):
    """What a video around pictures and clips takes."""

    _: KW_ONLY
    latents: Tensor | None = argument(
        "normalised latents of a video to change, (batch, channels, frames, height, width)."
    )
    image_cond_noise_scale: float | None = argument(
        "noise on what is kept as it is, which falls to 0 with the steps; it loosens motion."
    )

    def check_noise(self) -> None:
        """Nothing: noise is put on `latents`, too."""


@record("ltx condition request")
@dataclass(frozen=True, eq=False, kw_only=True)
class ConditionRequest(LTXRequest[ConditionArguments]):
    """What a run around pictures and clips is to do."""

    pixels: list[tuple[LTXVideoCondition, Tensor]] | None = None  # each (1, 3, frames, height, width)
    changed: Tensor | None = None
    """Pixels of the clip to change."""


class LTXConditionPipeline(LTXVideoPipeline):
    """Makes a video around given pictures and clips (0.9.5 and later): first and last frame, keyframes, extension."""

    family_defaults: ClassVar[dict[str, Any]] = {
        **LTXVideoPipeline.family_defaults,
        "image_cond_noise_scale": 0.15,
        "max_sequence_length": 256,
    }
    masks_text_encoder: ClassVar[bool] = True

    __call__ = call(
        ConditionArguments, VideoOutput, "Generate videos around pictures and clips, or from the prompt alone."
    )

    def check(self, arguments: ConditionArguments) -> ConditionRequest:
        gathered = gather_conditions(
            arguments.conditions, arguments.image, arguments.video, arguments.frame_index, arguments.strength
        )
        request = self.checked(ConditionRequest, arguments)
        self._check_start(request)
        pixels, cuts = read_conditions(gathered, request.size, self.vae.temporal_compression_ratio)
        changed = None
        if arguments.denoise_strength < 1 and arguments.latents is None:
            changed, pixels = clip_to_change(pixels, request.size)
        scale = known(arguments.image_cond_noise_scale)
        if scale < 0:
            raise ValueError(f"image_cond_noise_scale can't be negative, got {scale}.")
        if not pixels and scale not in (0, self.defaults["image_cond_noise_scale"]):
            raise ValueError("image_cond_noise_scale has no effect without a picture or clip; drop it.")
        return replace(adjusted(request, *cuts), pixels=pixels, changed=changed)

    def _check_start(self, request: ConditionRequest) -> None:
        """See that a run that starts from a video has one, and steps to go."""
        arguments = request.arguments
        is_partial = check_share("denoise_strength", arguments.denoise_strength) < 1
        run = self.start(request)
        if run.begin_of(arguments.denoise_strength) == len(run.timesteps):
            steps = len(run.begins)
            raise ValueError(f"denoise_strength {arguments.denoise_strength} leaves none of {steps} steps; raise it.")
        if arguments.latents is not None:
            if not is_partial:
                raise ValueError("latents has no effect at a denoise_strength of 1: nothing of them would be left.")
            self.check_latents(arguments.latents, request, packed=False)

    def start(self, request: LTXRequest[Any]) -> Run:
        """The run's own schedule: small steps near noise, then larger ones."""
        if request.arguments.timesteps is not None:
            return super().start(request)
        levels = linear_quadratic_schedule(request.arguments.num_steps)
        config = self.scheduler.config
        if not config.get("use_dynamic_shifting") and config.get("shift", config.get("flow_shift", 1.0)) != 1:
            return started(self.scheduler, sigmas=levels)  # moved by the shift, and the network is told where to
        return started(self.scheduler, timesteps=[1000 * level for level in levels])

    def strength_at(self, request: ConditionRequest, noise: float) -> float:
        """The `denoise_strength` of a run that begins at about this level of noise, from 0 (clean) to 1.

        Most steps of the schedule are near 1, so that a strength of 0.7 leaves next to nothing of a video.
        """
        levels = self.start(request).sigmas[:-1]
        num_steps = len(levels)
        return math.ceil(1000 * max(int((levels <= noise).sum()), 1) / num_steps) / 1000

    def encode(self, session: Session[ConditionRequest]) -> Prompts:
        """The prompts."""
        return self.encode_prompts(session)

    def steps(self, session: Session[ConditionRequest], prompts: Prompts) -> Iterator[Step]:
        """Yield the latents after every step, without the tokens that only condition them."""
        transformer, request = self.transformer, session.request
        run = self.start(request)
        begin = run.begin_of(request.arguments.denoise_strength)
        placed = place_conditions(self, session, self._initial_latents(session, run, begin), request.pixels or [])
        rotary = transformer.rotary(placed.coordinates)

        def predict(latents: Tensor, timestep: float, prompt: Any) -> Tensor:
            # A token that is kept to some degree is never shown as noisier than that leaves it.
            times = (1000 * (1 - placed.strengths)).clamp_max(timestep).expand(len(latents), -1)
            tokens = latents.to(transformer.dtype)
            return transformer(tokens, prompt, times, rotary=rotary, return_dict=False)[0].float()

        guidance = prompt_guidance(transformer, prompts, request.arguments)
        timesteps = run.timesteps.tolist()
        latents = self._loosened(session, placed, placed.latents, timesteps[begin])
        for step in session.denoise(predict, latents, run, guidance, begin=begin):
            is_noisier = step.timestep / 1000 - ALMOST < 1 - placed.strengths
            after = torch.where(is_noisier[..., None], step.latents, step.before)
            step.latents = after[:, placed.num_extra :]
            yield step
            after = torch.cat([after[:, : placed.num_extra], step.latents], dim=1)
            if step.index + 1 < step.total:
                after = self._loosened(session, placed, after, timesteps[begin + step.index + 1])
            step.latents = after

    def finished_latents(self, session: Session[Any], latents: Tensor) -> Tensor:
        """Normalised latents, (batch, channels, frames, height, width), as `latents` takes them."""
        return unpack_latents(latents, session.request.size.latent_size, *self.patches)

    def _initial_latents(self, session: Session[ConditionRequest], run: Run, begin: int) -> Tensor:
        request = session.request
        noise = drawn_noise(session, self.latent_shape(request), execution_device(self.transformer), frame_dim=2)
        latents, pixels = request.arguments.latents, request.changed
        if pixels is not None:
            if isinstance(session.generator, list):
                pixels = pixels.expand(request.num_videos, -1, -1, -1, -1)
            latents = self.encode_video(pixels, session)
        return noise if latents is None else run.add_noise(latents.to(noise), noise, begin)

    def _loosened(
        self, session: Session[ConditionRequest], placed: ConditionedLatents, latents: Tensor, timestep: float
    ) -> Tensor:
        """Latents whose kept tokens carry noise that falls with the square of the time."""
        scale = known(session.request.arguments.image_cond_noise_scale)
        if scale <= 0 or not placed.has_conditions:
            return latents
        noise = draw_noise(latents.shape, session.generator, latents.device)
        is_kept = placed.strengths > 1 - ALMOST
        return torch.where(is_kept[..., None], placed.latents + scale * (timestep / 1000) ** 2 * noise, latents)
