"""CogVideoX: video to video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from filmstrip.generation.events import Step
from filmstrip.generation.request import Request, check_count, check_share, read_clips
from filmstrip.generation.running import Report, VideoOutput, result
from filmstrip.memory.residency import execution_device
from filmstrip.models.cogvideox.common import CogVideoXVideoPipeline, Conditions
from filmstrip.nn.noise import draw_noise
from filmstrip.schedulers import Run


class CogVideoXVideoToVideoPipeline(CogVideoXVideoPipeline):
    """Changes a video as a text says, by denoising it again from some noise (arXiv:2108.01073)."""

    def __call__(
        self,
        video: Any = None,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        timesteps: Sequence[int] | None = None,
        strength: float = 0.8,
        guidance_scale: float | None = None,
        use_dynamic_cfg: bool | str = False,
        num_videos_per_prompt: int = 1,
        eta: float = 0.0,
        generator: Any = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        attention_kwargs: Mapping[str, Any] | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        max_sequence_length: int | None = None,
        sequential_guidance: bool | None = None,
    ) -> VideoOutput | tuple[Any, ...]:
        """Generate videos from videos, as long as they. The arguments are those of `CogVideoXPipeline`, and:

        Args:
            video: the frames of a clip; a list of clips has one for each prompt. They are resized.
            strength: how much of the schedule is run, from nearly 0 (the clip stays) to 1 (only its length stays).
            latents: in place of `video`, latents as noisy as the first step expects,
                (batch, latent frames, channels, height / 8, width / 8).

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        video, latents = values["video"], values["latents"]
        if (video is None) == (latents is None):
            given = "neither" if video is None else "both"
            raise ValueError(f"Video to video starts from video or from latents, {given} given; pass one of them.")
        check_share("strength", values["strength"])
        if video is None:
            request = self.check_call(values, self.num_frames_of(latents.shape[1]))
            self.check_latents("latents", latents, request)
        else:
            pixels = read_clips(self.rules, video, values)
            request = self.check_call(values, pixels.shape[2]).with_options(pixels=pixels)
            check_count("videos", pixels, request.num_prompts)
        run = self.start(request)
        if self._first_step(request, run) >= len(run.timesteps):
            raise ValueError(f"strength {request['strength']} leaves none of {len(run.timesteps)} steps; raise it.")
        return request

    def encode(self, request: Request, report: Report) -> Conditions:
        """The prompts, and the latents of the clips."""
        prompts = self.encode_prompts(request, report)
        if request["video"] is None:
            return Conditions(prompts, None)
        return Conditions(prompts, self.encode_clip(request, request["pixels"]))

    def steps(self, request: Request, conditions: Conditions) -> Iterator[Step]:
        """Yield the latents after every step."""
        run = self.start(request)
        begin = self._first_step(request, run)
        if conditions.latents is None:
            latents = request["latents"].to(execution_device(self.transformer), torch.float32)
        else:
            noise = draw_noise(self.latent_shape(request), request.generator, execution_device(self.transformer))
            latents = run.add_noise(conditions.latents, noise, begin)
        yield from self.sample(request, conditions.prompts, latents, run, begin=begin)

    def _first_step(self, request: Request, run: Run) -> int:
        """The step of the schedule that a run begins with: later ones keep more of the video."""
        num_steps = len(run.timesteps) // run.order
        return (num_steps - min(int(num_steps * request["strength"]), num_steps)) * run.order
