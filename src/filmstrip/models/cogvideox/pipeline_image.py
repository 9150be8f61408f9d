"""CogVideoX: image to video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from filmstrip.generation.request import Request, check_count
from filmstrip.generation.running import Report, VideoOutput, result
from filmstrip.media.pixels import preprocess_image
from filmstrip.models.cogvideox.common import CogVideoXVideoPipeline, Conditions


class CogVideoXImageToVideoPipeline(CogVideoXVideoPipeline):
    """Makes a video that begins with a given picture."""

    latents_per_channel: ClassVar[int] = 2
    condition_word: ClassVar[str] = "latents and a picture"

    def __call__(
        self,
        image: Any = None,
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
        """Generate videos from pictures. The arguments are those of `CogVideoXPipeline`, and:

        Args:
            image: the first frame: a picture, an array or a tensor; a list has one for each prompt. It is resized.

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        if values["image"] is None:
            raise ValueError("Image to video needs an image, and none was given; pass the first frame as image.")
        request = self.check_call(values, values["num_frames"])
        if request["latents"] is not None:
            self.check_latents("latents", request["latents"], request)
        pixels = preprocess_image(request["image"], request.size.height, request.size.width)
        check_count("pictures", pixels, request.num_prompts)
        return request.with_options(pixels=pixels)

    def encode(self, request: Request, report: Report) -> Conditions:
        """The prompts, and the latents of the picture, alone in an otherwise empty video."""
        prompts = self.encode_prompts(request, report)
        pixels = request["pixels"].unsqueeze(2)  # (pictures, 3, 1, height, width)
        if len(pixels) > 1 or isinstance(request.generator, list):
            pixels = request.per_video(pixels)
        picture = self.encode_video(pixels, request.generator)
        scale = self.vae.config.scaling_factor
        # The networks of 1.5 were trained on latents divided by the factor.
        picture = picture / scale if self.vae.config.invert_scale_latents else picture * scale
        empty_frames = request.size.latent_size[0] - 1
        latents = F.pad(picture, (0, 0, 0, 0, 0, 0, 0, empty_frames))  # (rows, frames, channels, height, width)
        return Conditions(prompts, latents.expand(request.num_videos, -1, -1, -1, -1))
