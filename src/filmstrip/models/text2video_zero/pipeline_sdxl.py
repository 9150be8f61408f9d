"""Text2Video-Zero with Stable Diffusion XL: larger videos from an image model, without training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.assembly import Pipeline
from filmstrip.generation.arguments import Embedded, Prompted, Rescaled, Sampled, Sized, Texts, argument, call
from filmstrip.generation.finite import check_finite
from filmstrip.generation.session import Session
from filmstrip.memory.coding import Coding
from filmstrip.memory.falling_back import in_float32
from filmstrip.models.stable_diffusion.arguments import PictureConditions, Skipping
from filmstrip.models.stable_diffusion.xl import (
    EMBEDS,
    XL_TEXTS,
    XLTexts,
    XLWords,
    check_xl_network,
    encode_xl_prompts,
    size_ids,
    xl_texts,
)
from filmstrip.models.text2video_zero.recipe import (
    Moving,
    MovingPictures,
    MovingRequest,
    TextToVideoPipelineOutput,
    Video,
)
from filmstrip.records import record


@dataclass(frozen=True, eq=False)
class Told(Prompted):
    """Texts for the second text encoder; the first of them after the prompt."""

    prompt_2: Texts | None = argument("for the second text encoder; by default what the first is given.")
    _: KW_ONLY
    negative_prompt_2: Texts | None = argument("the same for `negative_prompt`.", only_guided=True)


@record("text2video-zero sdxl arguments")
@dataclass(frozen=True, eq=False)
class XLArguments(Moving, Embedded, Skipping, Rescaled, Sampled, Sized, Video, Told, Prompted):
    """What text to video with Stable Diffusion XL takes."""

    _: KW_ONLY
    denoising_end: float | None = argument(
        "the share of the noise levels at which to end, with the videos still noisy."
    )
    pooled_prompt_embeds: Tensor | None = argument("needed beside `prompt_embeds`, or in place of what texts give.")
    negative_pooled_prompt_embeds: Tensor | None = argument("the same for `negative_prompt`.", only_guided=True)
    original_size: Sequence[int] | None = argument(
        "(height, width) that the network is told; by default that of the video. A smaller original looks as if it"
        " were enlarged."
    )
    crops_coords_top_left: Sequence[int] = argument(
        "(top, left) of the crop that the network is told; other than 0 is off the centre.", (0, 0)
    )
    target_size: Sequence[int] | None = argument("as `original_size`.")

    @property
    def end(self) -> float | None:
        """The share of the noise levels at which to end, if not at the last."""
        return self.denoising_end

    @property
    def words(self) -> XLWords:
        """What is said to the text encoders."""
        return {name: getattr(self, name) for name in (*XL_TEXTS, *EMBEDS)}


class TextToVideoZeroSDXLPipeline(MovingPictures):
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
        Pipeline.__init__(
            self,
            vae=vae,
            text_encoder=text_encoder,
            text_encoder_2=text_encoder_2,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            unet=unet,
            scheduler=scheduler,
            image_encoder=image_encoder,
            feature_extractor=feature_extractor,
            force_zeros_for_empty_prompt=force_zeros_for_empty_prompt,
            add_watermarker=add_watermarker,
        )

    __call__ = call(XLArguments, TextToVideoPipelineOutput, "Generate videos.")

    def check(self, arguments: XLArguments) -> MovingRequest:
        request = super().check(arguments)
        self._texts(arguments.words, arguments.is_guided)
        check_xl_network(self.unet, self.text_encoder_2, arguments.pooled_prompt_embeds)
        self._sizes(request)
        return request

    def _texts(self, words: XLWords, is_guided: bool) -> XLTexts:
        return xl_texts(words, is_guided=is_guided, has_zeros=self.force_zeros_for_empty_prompt)

    def _sizes(self, request: MovingRequest) -> Tensor:
        arguments, size = request.arguments, (request.size.height, request.size.width)
        assert isinstance(arguments, XLArguments)
        original, target = arguments.original_size or size, arguments.target_size or size
        return size_ids(original, arguments.crops_coords_top_left, target)

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
        words = {
            "prompt": prompt,
            "prompt_2": prompt_2,
            "negative_prompt": negative_prompt,
            "negative_prompt_2": negative_prompt_2,
            "prompt_embeds": prompt_embeds,
            "negative_prompt_embeds": negative_prompt_embeds,
            "pooled_prompt_embeds": pooled_prompt_embeds,
            "negative_pooled_prompt_embeds": negative_pooled_prompt_embeds,
        }
        texts = self._texts(words, do_classifier_free_guidance)
        with torch.no_grad():
            made = encode_xl_prompts(self._text_encoders, texts, clip_skip=clip_skip, long_prompts=long_prompts)
        rows = [getattr(made.repeated(num_images_per_prompt), name) for name in EMBEDS]
        return tuple(None if row is None else row.to(device) for row in rows)

    def encode(self, session: Session[MovingRequest]) -> PictureConditions:
        """The prompts of a request, and the sizes that the network is told."""
        request, arguments = session.request, session.request.arguments
        assert isinstance(arguments, XLArguments)
        skip, is_long = arguments.clip_skip, arguments.long_prompts
        texts = self._texts(arguments.words, arguments.is_guided)
        prompts = encode_xl_prompts(self._text_encoders, texts, clip_skip=skip, long_prompts=is_long)
        session.report.cut_off = prompts.cut_off
        for embeds in prompts.tensors.values():
            check_finite(embeds, "text_encoder")
        sizes = self._sizes(request).expand(request.num_prompts, -1)
        return PictureConditions.of(prompts, sizes=sizes).repeated(request.num_videos_per_prompt)

    def decode(self, session: Session[Any], vae: Any, latents: Tensor, coding: Coding | None) -> Iterator[Tensor]:
        """Yield the videos frame by frame."""
        # In float16 the autoencoder of SDXL overflows: it says that it is to be cast.
        overflows = vae.dtype == torch.float16 and vae.config.force_upcast
        with in_float32(vae) if overflows else nullcontext(vae) as wide:
            yield from super().decode(session, wide, latents, coding)
