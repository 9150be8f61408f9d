"""Prompts as networks take them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompts:
    """Encoded prompts, and the negative prompts of guided runs; one row for each video.

    Embeddings are (batch, prompt_tokens, dim); masks are (batch, prompt_tokens), where True marks a real token. A model
    that attends to padding has none.
    """

    prompt_embeds: Tensor
    prompt_attention_mask: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    negative_prompt_attention_mask: Tensor | None = None
    cut_off: tuple[str, ...] = ()
    """What of each prompt did not fit into the text encoder's window; empty strings where all did."""

    def repeated(self, times: int) -> Prompts:
        """Each row that many times in a row."""
        names = (
            "prompt_embeds",
            "prompt_attention_mask",
            "negative_prompt_embeds",
            "negative_prompt_attention_mask",
        )
        rows: dict[str, Any] = {name: getattr(self, name) for name in names}
        repeated = {name: row.repeat_interleave(times, 0) for name, row in rows.items() if row is not None}
        return replace(self, **repeated)

    def trimmed(self) -> Prompts:
        """Without the columns that are padding in every row; masked attention never sees them."""
        masks = [mask for mask in (self.prompt_attention_mask, self.negative_prompt_attention_mask) if mask is not None]
        if not masks:
            return self
        used = torch.cat([mask.bool() for mask in masks]).any(0).nonzero()
        length = int(used.max()) + 1 if len(used) else 1
        cut: dict[str, Any] = {
            name: value[:, :length]
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and value.shape[1] == masks[0].shape[1]
        }
        return replace(self, **cut)


EncodeTexts = Callable[[Sequence[str], int], Prompts]
"""Texts and the number of tokens that each is padded or cut to; gives the positive half of `Prompts`."""


def encode_prompts(
    encode: EncodeTexts,
    texts: Sequence[str] | None,
    negatives: Sequence[str] | None,
    embeds: Mapping[str, Tensor | None],
    max_length: int,
) -> Prompts:
    """Prompts and negative prompts encoded, with the embeddings that were given in their place.

    Args:
        negatives: None if there is no guidance, or if their embeddings were given.
        embeds: the call's prompt_embeds, ..., each None or in place of a text.
    """
    given: dict[str, Any] = {name: value for name, value in embeds.items() if value is not None}
    made: dict[str, Any] = {}
    if texts is not None:
        made = dict(vars(encode(texts, max_length)))
    if negatives is not None:
        length = max_length if texts is not None else given["prompt_embeds"].shape[1]
        against = encode(negatives, length)
        made["negative_prompt_embeds"] = against.prompt_embeds
        made["negative_prompt_attention_mask"] = against.prompt_attention_mask
    return Prompts(**{**made, **given})


def encode_text(
    tokenizer: Any, text_encoder: Any, texts: Sequence[str], max_length: int, *, masks_encoder: bool
) -> Prompts:
    """Texts encoded by a T5-like encoder, with their mask and what of each was cut off.

    Args:
        max_length: tokens that every text is padded or cut to.
        masks_encoder: whether padding is hidden from the encoder itself, too.
    """
    texts = list(texts)
    options = {"max_length": max_length, "truncation": True, "add_special_tokens": True, "return_tensors": "pt"}
    tokens = tokenizer(texts, padding="max_length", **options)
    cut_off = tuple(_cut_off(tokenizer, text, max_length) for text in texts)
    for text in filter(None, cut_off):
        logger.warning("The prompt is longer than %d tokens; this part of it is not used: %r", max_length, text)
    mask = tokens.attention_mask.bool()
    device = next(text_encoder.parameters()).device
    masked = {"attention_mask": mask.to(device)} if masks_encoder else {}
    embeds = text_encoder(tokens.input_ids.to(device), **masked)[0]
    return Prompts(embeds, mask, cut_off=cut_off)


def _cut_off(tokenizer: Any, text: str, max_length: int) -> str:
    ids = tokenizer(text, add_special_tokens=True).input_ids
    if len(ids) <= max_length:
        return ""
    return str(tokenizer.decode(ids[max_length - 1 :], skip_special_tokens=True)).strip()
