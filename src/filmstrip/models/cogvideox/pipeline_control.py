"""CogVideoX-Fun: text and a control video to video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from filmstrip.generation.request import Request, check_count, read_clips
from filmstrip.generation.running import Report, VideoOutput, result
from filmstrip.memory.residency import execution_device
from filmstrip.models.cogvideox.common import CogVideoXVideoPipeline, Conditions


class CogVideoXFunControlPipeline(CogVideoXVideoPipeline):
    """Makes a video that follows the poses, edges or depths of a control video (aigc-apps, CogVideoX-Fun)."""

    latents_per_channel: ClassVar[int] = 2
    condition_word: ClassVar[str] = "latents and a control video"

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        control_video: Any = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        timesteps: Sequence[int] | None = None,
        guidance_scale: float | None = None,
        use_dynamic_cfg: bool | str = False,
        num_videos_per_prompt: int = 1,
        eta: float = 0.0,
        generator: Any = None,
        latents: Tensor | None = None,
        control_video_latents: Tensor | None = None,
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
        """Generate videos that follow control videos. The arguments are those of `CogVideoXPipeline`, and:

        Args:
            control_video: the frames of a clip that the video follows frame by frame; a list of clips has one for each
                prompt. They are resized, and the video is as long as they.
            control_video_latents: in place of it, the autoencoder's latents times its scaling factor, one for all or
                one for each prompt, (clips, channels, latent frames, height / 8, width / 8).

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        video, latents = values["control_video"], values["control_video_latents"]
        if (video is None) == (latents is None):
            given = "neither" if video is None else "both"
            raise ValueError(
                f"Control starts from control_video or from control_video_latents, {given} given; pass one of them."
            )
        if video is None:
            request = self.check_call(values, self.num_frames_of(latents.shape[2]))
            self.check_latents("control_video_latents", latents, request, channels_first=True)
            control = latents.movedim(1, 2)  # (clips, frames, channels, height, width)
        else:
            control = read_clips(self.rules, video, values)
            request = self.check_call(values, control.shape[2])
            check_count("control videos", control, request.num_prompts)
        if request["latents"] is not None:
            self.check_latents("latents", request["latents"], request)
        return request.with_options(control=control)

    def encode(self, request: Request, report: Report) -> Conditions:
        """The prompts, and the latents of the control videos."""
        prompts = self.encode_prompts(request, report)
        control = request["control"]
        if request["control_video"] is None:
            return Conditions(prompts, request.per_video(control.float().to(execution_device(self.transformer))))
        return Conditions(prompts, self.encode_clip(request, control, mode=True))
