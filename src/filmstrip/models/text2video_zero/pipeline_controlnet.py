"""Text2Video-Zero with ControlNet: text and a control video to video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from filmstrip.generation.events import Step
from filmstrip.generation.request import Request, check_count, read_clips
from filmstrip.generation.running import Report, result
from filmstrip.memory.residency import execution_device
from filmstrip.models.stable_diffusion.controlling import Controlling
from filmstrip.models.stable_diffusion.pipeline_controlnet import ControlledBase, ControlledPrompts
from filmstrip.models.text2video_zero.attention import AcrossFrames
from filmstrip.models.text2video_zero.recipe import (
    TextToVideoPipelineOutput,
    VideosOfPictures,
    request_of_rows,
    rows_of_frames,
)


class TextToVideoZeroControlNetPipeline(VideosOfPictures, ControlledBase):
    """Makes a video from a text that follows the poses or edges of a clip, frame by frame (arXiv:2303.13439, 3.3)."""

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        control_video: Any = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        num_videos_per_prompt: int = 1,
        eta: float = 0.0,
        generator: Any = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        controlnet_conditioning_scale: float | Sequence[float] = 1.0,
        guess_mode: bool = False,
        control_guidance_start: float | Sequence[float] = 0.0,
        control_guidance_end: float | Sequence[float] = 1.0,
        clip_skip: int | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        sequential_guidance: bool | None = None,
        long_prompts: bool = False,
    ) -> TextToVideoPipelineOutput | tuple[Any, ...]:
        """Generate videos. The arguments are those of `StableDiffusionControlNetPipeline`, and:

        Args:
            control_video: the frames of a clip of poses or edges, which the video follows one by one; a list of clips
                has one for each prompt. With several ControlNets, a list with what each of them is given. They are
                resized, and the video is as long as they.
            latents: the initial noise, which is the same for all frames, (batch, channels, height / 8, width / 8).

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        given = self.given_to_nets("control_video", values["control_video"])
        values = self.checked_control(values)
        # Control pictures are in [0, 1].
        clips = [read_clips(self.rules, one, values) * 0.5 + 0.5 for one in given]
        lengths = [clip.shape[2] for clip in clips]
        if len(set(lengths)) > 1:
            raise ValueError(f"control_video has clips of {lengths} frames; give each ControlNet as many.")
        request = self.check_call(values, num_frames=lengths[0])
        for clip in clips:
            check_count("control videos", clip, request.num_prompts)
        return request.with_options(clips=clips)

    def encode(self, request: Request, report: Report) -> ControlledPrompts:
        """The prompts, and the control pictures, one row for each frame."""
        device, dtype = execution_device(self.unet), self.nets[0].dtype
        prompts = self.encode_prompts(request, report).repeated(request.size.num_frames)
        return ControlledPrompts(
            prompts, [rows_of_frames(request, clip).to(device, dtype) for clip in request["clips"]]
        )

    def steps(self, request: Request, conditions: ControlledPrompts) -> Iterator[Step]:
        """Yield the latents of all frames after every step; they begin with the same noise."""
        run, num_frames = self.start(request), request.size.num_frames
        latents = self.initial_noise(request, run).repeat_interleave(num_frames, 0)
        unet, *nets = (AcrossFrames(network, num_frames) for network in (self.unet, *self.nets))
        control = Controlling(nets, conditions.pictures, request, run.timesteps.tolist())
        rows = request_of_rows(request, len(latents))
        yield from self.sample(rows, conditions.prompts, latents, run, control, unet=unet)
