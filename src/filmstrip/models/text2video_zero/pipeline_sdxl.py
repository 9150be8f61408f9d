"""Text2Video-Zero with Stable Diffusion XL: larger videos from an image model, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.generation import Pipeline
from filmstrip.generation.events import Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.prompts import Prompts
from filmstrip.generation.request import Request
from filmstrip.generation.running import Report, result
from filmstrip.models.stable_diffusion.common import StableDiffusionBase
from filmstrip.models.stable_diffusion.xl import (
    EMBEDS,
    check_xl_network,
    encode_xl_prompts,
    size_ids,
    xl_decoder,
    xl_texts,
)
from filmstrip.models.text2video_zero.recipe import (
    TextToVideoPipelineOutput,
    VideosOfPictures,
    check_arguments,
    checked_recipe,
    decode_frames,
    video_steps,
)


class TextToVideoZeroSDXLPipeline(VideosOfPictures, StableDiffusionBase):
    """Makes a video from a text with Stable Diffusion XL (arXiv:2303.13439, arXiv:2307.01952).

    Args:
        text_encoder, tokenizer: may be None; texts then go through the second ones alone.
        force_zeros_for_empty_prompt: without a negative prompt, guide away from zeros and not from an empty text.
        add_watermarker: without effect; pictures are given as they are made, without an invisible watermark.
    """

    _callback_tensor_inputs: ClassVar[tuple[str, ...]] = ("latents", *EMBEDS)
    _left_out: ClassVar[tuple[str, ...]] = ("feature_extractor", "image_encoder")
    _optional_components: ClassVar[tuple[str, ...]] = (
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "image_encoder",
        "feature_extractor",
    )

    def __init__(
        self,
        vae: Any,
        text_encoder: Any,
        text_encoder_2: Any,
        tokenizer: Any,
        tokenizer_2: Any,
        unet: Any,
        scheduler: Any,
        image_encoder: Any = None,
        feature_extractor: Any = None,
        force_zeros_for_empty_prompt: bool = True,
        add_watermarker: bool = False,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        Pipeline.__init__(self, **given)

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        prompt_2: str | Sequence[str] | None = None,
        video_length: int = 8,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        denoising_end: float | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        negative_prompt_2: str | Sequence[str] | None = None,
        num_videos_per_prompt: int = 1,
        eta: float = 0.0,
        generator: Any = None,
        frame_ids: Sequence[int] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        latents: Tensor | None = None,
        motion_field_strength_x: float = 12,
        motion_field_strength_y: float = 12,
        output_type: str = "np",
        return_dict: bool = True,
        callback: Callable[[int, int, Tensor], None] | None = None,
        callback_steps: int = 1,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        guidance_rescale: float = 0.0,
        original_size: Sequence[int] | None = None,
        crops_coords_top_left: Sequence[int] = (0, 0),
        target_size: Sequence[int] | None = None,
        t0: int | None = None,
        t1: int | None = None,
        clip_skip: int | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        sequential_guidance: bool | None = None,
        long_prompts: bool = False,
    ) -> TextToVideoPipelineOutput | tuple[Any, ...]:
        """Generate videos. The arguments are those of `TextToVideoZeroPipeline`, and:

        Args:
            prompt_2, negative_prompt_2: for the second text encoder; by default what the first is given.
            denoising_end: the share of the noise levels at which to end, with the videos still noisy.
            prompt_embeds, negative_prompt_embeds: from `encode_prompt`, in place of texts.
            pooled_prompt_embeds, negative_pooled_prompt_embeds: needed beside them, or in place of what texts give.
            guidance_rescale: from 0 to 1, against overexposure (arXiv:2305.08891, section 3.4).
            original_size, target_size: (height, width) that the network is told; by default those of the video. A
                smaller original looks as if it were enlarged.
            crops_coords_top_left: (top, left) of the crop that the network is told; other than 0 is off the centre.
            clip_skip: how many layers beside the last of each text encoder are left out.

        Raises:
            ValueError: the model can't do what is asked, or the arguments contradict each other.
            NonFiniteError: a component gave infinities or NaNs.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        return result(self, self.request(**arguments))

    def check(self, values: dict[str, Any]) -> Request:
        """The request that a call's completed arguments make."""
        values, frames = check_arguments(values)
        request = self.check_call(values, num_frames=frames)
        request = checked_recipe(request, self.start(request), self.scheduler)
        is_guided = values["guidance_scale"] > 1
        texts = xl_texts(values, is_guided=is_guided, has_zeros=self.force_zeros_for_empty_prompt)
        check_xl_network(self.unet, self.text_encoder_2, values["pooled_prompt_embeds"])
        size = request.size.height, request.size.width
        sizes = size_ids(
            values["original_size"] or size, values["crops_coords_top_left"], values["target_size"] or size
        )
        return request.with_options(texts=texts, sizes=sizes)

    def _check_clip_skip(self, skip: int | None) -> None:
        encoders = [one for one in (self.text_encoder, self.text_encoder_2) if one is not None]
        layers = min((one.config.num_hidden_layers for one in encoders), default=None)
        if skip is not None and layers is not None and not 0 <= skip < layers:
            raise ValueError(f"clip_skip must be between 0 and {layers - 1}, the text encoders' layers, got {skip}.")

    @property
    def _text_encoders(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        return (self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2)

    def encode_prompt(  # type: ignore[override]  # SDXL takes and gives more
        self,
        prompt: str | Sequence[str] | None,
        prompt_2: str | Sequence[str] | None = None,
        device: str | torch.device | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | Sequence[str] | None = None,
        negative_prompt_2: str | Sequence[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        clip_skip: int | None = None,
        long_prompts: bool = False,
    ) -> tuple[Tensor | None, ...]:
        """Embeddings of prompts and of negative prompts, and of each as a whole: what a call takes in place of texts.

        Args:
            device: where the embeddings are wanted; where the text encoders are if None.
        """
        zeros = self.force_zeros_for_empty_prompt
        texts = xl_texts(locals(), is_guided=do_classifier_free_guidance, has_zeros=zeros)
        with torch.no_grad():
            made = encode_xl_prompts(self._text_encoders, texts, clip_skip=clip_skip, long_prompts=long_prompts)
        rows = [getattr(made.repeated(num_images_per_prompt), name) for name in EMBEDS]
        return tuple(None if row is None else row.to(device) for row in rows)

    def encode(self, request: Request, report: Report) -> Prompts:
        """The prompts of a request, and the sizes that the network is told."""
        options = {name: request[name] for name in ("clip_skip", "long_prompts")}
        prompts = encode_xl_prompts(self._text_encoders, request["texts"], **options)
        report.cut_off = prompts.cut_off
        for embeds in prompts.tensors.values():
            check_finite(embeds, "text_encoder")
        sizes = request["sizes"].expand(request.num_prompts, -1)
        return replace(prompts, sizes=sizes).repeated(request.num_videos_per_prompt)

    def steps(self, request: Request, conditions: Prompts) -> Iterator[Step]:
        """Yield the latents after every step: first those of the first frames, then those of all frames."""
        return video_steps(self, request, conditions)

    def decode(self, request: Request, latents: Tensor) -> Iterator[Tensor]:
        """Yield the videos frame by frame."""
        with xl_decoder(self.vae) as vae:
            yield from decode_frames(vae, request, latents)
