"""LTX-Video: pictures and clips at any frame of a video, each as strongly as wanted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.generation.denoising import denoise
from filmstrip.generation.events import TOLD, Step
from filmstrip.generation.packing import unpack_latents
from filmstrip.generation.request import Request, check_share
from filmstrip.generation.running import Report, VideoOutput, result
from filmstrip.memory.residency import execution_device
from filmstrip.models.ltx.common import LTXVideoPipeline, prompt_guidance
from filmstrip.models.ltx.conditions import (
    ConditionedLatents,
    ConditionedPrompts,
    LTXVideoCondition,
    clip_to_change,
    gather_conditions,
    place_conditions,
    read_conditions,
)
from filmstrip.nn.noise import draw_noise
from filmstrip.schedulers import Run, linear_quadratic_schedule

logger = logging.getLogger(__name__)

ALMOST = 1e-6


class LTXConditionPipeline(LTXVideoPipeline):
    """Makes a video around given pictures and clips (0.9.5 and later): first and last frame, keyframes, extension."""

    family_defaults: ClassVar[dict[str, Any]] = {
        **LTXVideoPipeline.family_defaults,
        "image_cond_noise_scale": 0.15,
        "max_sequence_length": 256,
    }
    masks_text_encoder: ClassVar[bool] = True

    def __call__(
        self,
        conditions: LTXVideoCondition | Sequence[LTXVideoCondition] | None = None,
        image: Any = None,
        video: Any = None,
        frame_index: int | Sequence[int] = 0,
        strength: float | Sequence[float] = 1.0,
        denoise_strength: float = 1.0,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        frame_rate: float | None = None,
        num_inference_steps: int | None = None,
        timesteps: Sequence[float] | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        image_cond_noise_scale: float | None = None,
        num_videos_per_prompt: int = 1,
        generator: Any = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        decode_timestep: float | Sequence[float] = 0.0,
        decode_noise_scale: float | Sequence[float] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        attention_kwargs: Mapping[str, Any] | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        max_sequence_length: int | None = None,
        sequential_guidance: bool | None = None,
    ) -> VideoOutput | tuple[Any, ...]:
        """Generate videos around pictures and clips, or from the prompt alone.

        The arguments are those of `LTXPipeline`, and:

        Args:
            conditions: pictures and clips with their places and strengths; or, in place of it, the next four:
            image: a picture, or a list of them.
            video: a clip (frames), or a list of clips; it counts up to its last 8k + 1 frames that fit.
            frame_index: the frame that a picture or clip stands at; a list has one for each, pictures first.
            strength: from 0 (ignored) to 1 (kept as it is); a list as `frame_index`.
            denoise_strength: below 1, change a video: start from it with so much noise. It is given as `latents`, or as
                a `video` at frame 0 that is as long as the one to make; that clip is then no condition.
            image_cond_noise_scale: noise on what is kept as it is, which falls to 0 with the steps; it loosens motion.
            latents: normalised latents of a video to change, (batch, channels, frames, height, width).

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        gathered = gather_conditions(
            *(values[name] for name in ("conditions", "image", "video", "frame_index", "strength"))
        )
        request = super().check(values)
        self._check_start(request)
        pixels, cuts = read_conditions(gathered, request.size, self.vae.temporal_compression_ratio)
        changed = None
        if request["denoise_strength"] < 1 and request["latents"] is None:
            changed, pixels = clip_to_change(pixels, request.size)
        scale = request["image_cond_noise_scale"]
        if scale < 0:
            raise ValueError(f"image_cond_noise_scale can't be negative, got {scale}.")
        if not pixels and scale not in (0, self.defaults["image_cond_noise_scale"]):
            raise ValueError("image_cond_noise_scale has no effect without a picture or clip; drop it.")
        for sentence in cuts:
            logger.warning(sentence, extra=TOLD)
        size = replace(request.size, adjustments=(*request.size.adjustments, *cuts))
        return replace(request, size=size).with_options(pixels=pixels, changed=changed)

    def _check_start(self, request: Request) -> None:
        """See that a run that starts from a video has one, and steps to go."""
        is_partial = check_share("denoise_strength", request["denoise_strength"]) < 1
        steps = request["num_inference_steps"] if request["timesteps"] is None else len(request["timesteps"])
        if _first_step(steps, request) == steps:
            raise ValueError(f"denoise_strength {request['denoise_strength']} leaves none of {steps} steps; raise it.")
        if request["latents"] is not None:
            if not is_partial:
                raise ValueError("latents has no effect at a denoise_strength of 1: nothing of them would be left.")
            self.check_latents(request["latents"], request, packed=False)

    def start(self, request: Request) -> Run:
        """The run's own schedule: small steps near noise, then larger ones."""
        if request["timesteps"] is not None:
            return super().start(request)
        levels = linear_quadratic_schedule(request["num_inference_steps"])
        return self.scheduler.start(timesteps=[1000 * level for level in levels])

    def encode(self, request: Request, report: Report) -> ConditionedPrompts:
        """The prompts, and the pixels of the conditions."""
        return ConditionedPrompts(self.encode_prompts(request, report), request["pixels"])

    def steps(self, request: Request, conditions: ConditionedPrompts) -> Iterator[Step]:
        """Yield the latents after every step, without the tokens that only condition them."""
        run = self.start(request)
        begin = _first_step(len(run.timesteps), request)
        placed = place_conditions(self, request, self._initial_latents(request, run, begin), conditions.latents)
        rotary = self.transformer.rotary(placed.coordinates)

        def predict(latents: Tensor, timestep: float, prompt: Any) -> Tensor:
            # A token that is kept to some degree is never shown as noisier than that leaves it.
            times = (1000 * (1 - placed.strengths)).clamp_max(timestep).expand(len(latents), -1)
            tokens = latents.to(self.transformer.dtype)
            return self.transformer(tokens, prompt, times, rotary=rotary, return_dict=False)[0].float()

        guidance = prompt_guidance(self.transformer, conditions.prompts, request)
        timesteps = run.timesteps.tolist()
        latents = self._loosened(request, placed, placed.latents, timesteps[begin])
        for step in denoise(
            predict, latents, run, guidance, begin=begin, generator=request.generator, keeper=request.keeper
        ):
            is_noisier = step.timestep / 1000 - ALMOST < 1 - placed.strengths
            after = torch.where(is_noisier[..., None], step.latents, step.before)
            step.latents = after[:, placed.num_extra :]
            guidance.offer(step)
            yield step
            guidance.accept(step)
            after = torch.cat([after[:, : placed.num_extra], step.latents], dim=1)
            if step.index + 1 < step.total:
                after = self._loosened(request, placed, after, timesteps[begin + step.index + 1])
            step.latents = after

    def finished_latents(self, request: Request, latents: Tensor) -> Tensor:
        """Normalised latents, (batch, channels, frames, height, width), as `latents` takes them."""
        return unpack_latents(latents, request.size.latent_size, *self.patches)

    def _initial_latents(self, request: Request, run: Run, begin: int) -> Tensor:
        noise = draw_noise(self.latent_shape(request), request.generator, execution_device(self.transformer))
        latents, pixels = request["latents"], request["changed"]
        if pixels is not None:
            if isinstance(request.generator, list):
                pixels = pixels.expand(request.num_videos, -1, -1, -1, -1)
            latents = self.encode_video(pixels, request.generator)
        return noise if latents is None else run.add_noise(latents.to(noise), noise, begin)

    def _loosened(self, request: Request, placed: ConditionedLatents, latents: Tensor, timestep: float) -> Tensor:
        """Latents whose kept tokens carry noise that falls with the square of the time."""
        scale = request["image_cond_noise_scale"]
        if scale <= 0 or not placed.has_conditions:
            return latents
        noise = draw_noise(latents.shape, request.generator, latents.device)
        is_kept = placed.strengths > 1 - ALMOST
        return torch.where(is_kept[..., None], placed.latents + scale * (timestep / 1000) ** 2 * noise, latents)


def _first_step(num_steps: int, request: Request) -> int:
    """The step of the schedule that a run begins with: 0, or a later one to keep something of a video."""
    return num_steps - min(int(num_steps * request["denoise_strength"]), num_steps)
