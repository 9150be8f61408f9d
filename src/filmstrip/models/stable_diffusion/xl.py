"""What Stable Diffusion XL has beside its U-Net (arXiv:2307.01952): two text encoders, and sizes as conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from filmstrip.generation.finite import check_finite
from filmstrip.generation.prompts import Prompts, encode_clip_text, num_clip_parts, warn_of_cut_off
from filmstrip.generation.request import check_prompts
from filmstrip.json_files import shown

XL_TEXTS = ("prompt", "prompt_2", "negative_prompt", "negative_prompt_2")
# In the order that `encode_prompt` returns them.
EMBEDS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
NUM_SIZES = 6  # two each for the original's size, the crop's place and the picture's size


XLWords = Mapping[str, Any]
"""What is said to the two text encoders, by `XL_TEXTS`, or embeddings in its place, by `EMBEDS`; None is left out."""


@dataclass(frozen=True)
class XLTexts:
    """What is to be encoded. Each has the texts of the first encoder and those of the second."""

    prompts: tuple[tuple[str, ...], tuple[str, ...]] | None
    """None: embeddings are in their place."""
    negatives: tuple[tuple[str, ...], tuple[str, ...]] | None
    """None: as for the prompts, or zeros are in their place, or there is no guidance."""
    embeds: Mapping[str, Tensor]
    has_zeros: bool
    """Whether there is guidance away from zeros."""


# ---- what is asked for -----------------------------------------------------------------------------------------------


def xl_texts(words: XLWords, *, is_guided: bool, has_zeros: bool) -> XLTexts:
    """What is to be encoded for a call's prompts, negative prompts and embeddings.

    Args:
        has_zeros: whether zeros take the place of a negative prompt where none is given.

    Raises:
        ValueError: the arguments contradict each other.
    """
    for name in ("prompt", "negative_prompt"):
        if words[f"{name}_embeds"] is None:
            continue
        pooled = name.replace("prompt", "pooled_prompt_embeds")
        if words[pooled] is None:
            raise ValueError(f"{name}_embeds needs {pooled}, which encode_prompt makes together with it.")
        if words[f"{name}_2"] is not None:
            raise ValueError(f"Both {name}_2 and {name}_embeds were given; pass only one of them.")
    given = {name: words[name] for name in EMBEDS if is_guided or not name.startswith("negative")}
    pair = {name: words[name] for name in EMBEDS[:2]}
    prompts, negatives, count = check_prompts(words["prompt"], words["negative_prompt"], pair, is_guided=is_guided)
    for name in EMBEDS[2:]:
        if given.get(name) is not None and (given[name].dim() != 2 or len(given[name]) != count):
            shape = tuple(given[name].shape)
            raise ValueError(f"{name} must have one row for each of the {count} prompts, got the shape {shape}.")
    is_empty = not words["negative_prompt_2"] and words["negative_prompt"] is None
    if has_zeros and is_empty:
        negatives = None
    return XLTexts(
        None if prompts is None else (prompts, _second("prompt_2", words["prompt_2"], prompts)),
        None if negatives is None else (negatives, _second("negative_prompt_2", words["negative_prompt_2"], negatives)),
        {name: value for name, value in given.items() if value is not None},
        has_zeros and is_empty and is_guided,
    )


def _second(name: str, given: str | Sequence[str] | None, first: tuple[str, ...]) -> tuple[str, ...]:
    """What the second encoder is given: the texts of the first one, unless the call has others."""
    if not given:
        return first
    texts = (given,) * len(first) if isinstance(given, str) else tuple(given)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} must be a text or a list of texts, got {shown(given)}.")
    if len(texts) != len(first):
        raise ValueError(f"{len(texts)} texts were given as {name} for {len(first)} prompts; pass one, or one each.")
    return texts


def size_ids(
    original_size: Sequence[int], crops_coords_top_left: Sequence[int], target_size: Sequence[int]
) -> Tensor:  # (1, 6)
    """Sizes as the U-Net is told them (arXiv:2307.01952, section 2.2); height and top come before width and left.

    Raises:
        ValueError: one of them is not a pair of whole numbers, or no size.
    """
    pairs = {
        "original_size": (original_size, 1),
        "crops_coords_top_left": (crops_coords_top_left, 0),
        "target_size": (target_size, 1),
    }
    for name, (pair, least) in pairs.items():
        is_pair = isinstance(pair, (list, tuple)) and len(pair) == 2
        if not is_pair or not all(isinstance(one, int) and one >= least for one in pair):
            raise ValueError(f"{name} must be two whole numbers of at least {least}, got {shown(pair)}.")
    return torch.tensor([[*original_size, *crops_coords_top_left, *target_size]], dtype=torch.float32)


def check_xl_network(unet: Any, text_encoder: Any, pooled_prompt_embeds: Tensor | None) -> None:
    """See that a U-Net takes the pooled embeddings of a text encoder, or of a call, and the sizes."""
    config = unet.config
    if config.addition_embed_type != "text_time":
        raise ValueError(
            "this U-Net is not of SDXL: its addition_embed_type must be 'text_time', "
            f"got {shown(config.addition_embed_type)}; use the pipeline of its own family."
        )
    room = config.projection_class_embeddings_input_dim - NUM_SIZES * config.addition_time_embed_dim
    if pooled_prompt_embeds is not None:
        width = pooled_prompt_embeds.shape[-1]
    elif text_encoder is not None:
        width = text_encoder.config.projection_dim
    else:
        return
    if width != room:
        raise ValueError(
            f"the U-Net takes pooled embeddings of {room} values, got {width}; they belong to another one."
        )


# ---- prompts ---------------------------------------------------------------------------------------------------------


class _Penultimate(nn.Module):
    """A CLIP text encoder of which the output of a layer before the last is taken, without the last norm."""

    def __init__(self, text_encoder: nn.Module, skip: int) -> None:
        super().__init__()
        self.text_encoder, self.skip, self.config = text_encoder, skip, text_encoder.config
        self.whole: Tensor | None = None  # what the encoder says of each text as a whole, if it is one that does

    def forward(self, ids: Tensor, attention_mask: Tensor | None, output_hidden_states: bool) -> tuple[Tensor]:
        encoded = self.text_encoder(ids, attention_mask=attention_mask, output_hidden_states=True)
        self.whole = encoded[0]
        return (encoded.hidden_states[-2 - self.skip],)


def encode_xl_prompts(
    pairs: Sequence[tuple[Any, Any]], texts: XLTexts, *, clip_skip: int | None = None, long_prompts: bool = False
) -> Prompts:
    """Prompts and negative prompts through both text encoders, or the embeddings in their place.

    Args:
        pairs: tokenizer and text encoder, twice; the first may be None and None.
        clip_skip: how many layers more than the last are left out, for the prompts alone as in the reference.
        long_prompts: encode texts beyond the encoders' window in parts; the first part stands for the whole.
    """
    made: dict[str, Any] = {}
    window = pairs[1][0].model_max_length if pairs[1][0] is not None else 1
    num_parts = _num_parts(pairs, [*(texts.prompts or ()), *(texts.negatives or ())]) if long_prompts else 1
    if texts.prompts is not None:
        embeds, pooled, cut_off = _encode(pairs, texts.prompts, clip_skip or 0, num_parts)
        warn_of_cut_off("prompt", cut_off, window)
        made |= {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled, "cut_off": cut_off}
    made |= texts.embeds
    if texts.has_zeros:
        zeros = {f"negative_{name}": torch.zeros_like(made[name]) for name in ("prompt_embeds", "pooled_prompt_embeds")}
        made = {**zeros, **made}
    elif texts.negatives is not None:
        num_parts = max(1, made["prompt_embeds"].shape[1] // window)
        embeds, pooled, cut_off = _encode(pairs, texts.negatives, 0, num_parts)
        warn_of_cut_off("negative prompt", cut_off, window)
        made = {"negative_prompt_embeds": embeds, "negative_pooled_prompt_embeds": pooled, **made}
    return Prompts(**made)


def _num_parts(pairs: Sequence[tuple[Any, Any]], texts: Sequence[Sequence[str]]) -> int:
    tokenizers = [tokenizer for tokenizer, _ in pairs if tokenizer is not None]
    return max(num_clip_parts(tokenizer, some) for tokenizer in tokenizers for some in texts or [()])


def _encode(
    pairs: Sequence[tuple[Any, Any]], texts: Sequence[Sequence[str]], skip: int, num_parts: int
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Embeddings, those of whole texts, and what of each text was cut off."""
    columns, cut_off = [], ("",) * len(texts[0])
    whole: Tensor | None = None
    names = ("text_encoder", "text_encoder_2")
    for name, (tokenizer, text_encoder), some in zip(names, pairs, texts, strict=True):
        if tokenizer is None or text_encoder is None:
            continue
        encoder = _Penultimate(text_encoder, skip)
        encoded = encode_clip_text(tokenizer, encoder, some, num_parts=num_parts)
        columns.append(check_finite(encoded.prompt_embeds, name))
        cut_off = tuple(before or now for before, now in zip(cut_off, encoded.cut_off, strict=True))
        whole = None if encoder.whole is None else check_finite(encoder.whole, name)
    if whole is None or whole.dim() != 2:
        raise ValueError(
            "texts are encoded by text_encoder_2, with a projection; pass it and tokenizer_2, or embeddings."
        )
    embeds = torch.cat([column.to(whole.device) for column in columns], dim=-1)
    return embeds, whole.unflatten(0, (-1, num_parts))[:, 0], cut_off
