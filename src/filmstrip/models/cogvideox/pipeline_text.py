"""CogVideoX: text to video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from filmstrip.generation.request import Request
from filmstrip.generation.running import Report, VideoOutput, result
from filmstrip.models.cogvideox.common import CogVideoXVideoPipeline, Conditions


class CogVideoXPipeline(CogVideoXVideoPipeline):
    """Makes a video from a text (arXiv:2408.06072)."""

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        timesteps: Sequence[int] | None = None,
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
        """Generate videos. Arguments that are None take the checkpoint's or the family's default.

        Args:
            prompt: what the video shows; a list makes a batch.
            negative_prompt: what it does not show; used when `guidance_scale` is above 1.
            height, width: in pixels, multiples of 16; by default what the transformer was trained for.
            num_frames: exactly so many frames come out.
            num_inference_steps: more steps, more detail, more time.
            timesteps: a falling schedule of one's own, whole numbers from 999 (noise) to 0.
            guidance_scale: how strongly to follow the prompt (arXiv:2207.12598); 1 is not at all, at half the cost.
            use_dynamic_cfg: let the guidance rise from 1 to 1 + `guidance_scale` along a cosine of the share of steps
                done; "timestep" uses the timestep in its place, as Diffusers does.
            num_videos_per_prompt: videos for each prompt, which differ in their noise.
            eta: with a DDIM scheduler, how much fresh noise each step adds, from 0 to 1 (arXiv:2010.02502).
            generator: source of all randomness; a list has one for each video.
            latents: the initial noise, (batch, latent frames, channels, height / 8, width / 8).
            prompt_embeds, negative_prompt_embeds: from `encode_prompt`, in place of texts.
            output_type: "pil", "np", "pt", "uint8" or "latent"; see `VideoOutput`.
            return_dict: whether to return a `VideoOutput` and not a tuple.
            attention_kwargs: nothing takes any yet.
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after every step; what it returns
                under a tensor's name replaces that tensor. Setting `pipeline._interrupt` ends the denoising, and
                setting `pipeline._guidance_scale` changes the guidance of the next steps.
            callback_on_step_end_tensor_inputs: the tensors it is given.
            max_sequence_length: tokens that a prompt is cut or padded to; networks are trained for one number.
            sequential_guidance: run the network for the prompt and against it in turn: less memory, more time; None: as
                `fit` chose, else together.

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        request = self.check_call(values, values["num_frames"])
        if request["latents"] is not None:
            self.check_latents("latents", request["latents"], request)
        return request

    def encode(self, request: Request, report: Report) -> Conditions:
        """The prompts of a request."""
        return Conditions(self.encode_prompts(request, report))
