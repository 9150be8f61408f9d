"""Prompts as networks take them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from filmstrip.memory.residency import execution_device

logger = logging.getLogger(__name__)

# Tokenizers keep how they pad and cut, which every call sets anew: calls that share one take turns.
_tokenising = Lock()

_PER_TOKEN = frozenset(
    {"prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask"}
)


@dataclass(frozen=True)
class Prompts:
    """Encoded prompts, and the negative prompts of guided runs; one row for each video.

    Embeddings are (batch, prompt_tokens, dim), pooled ones, of each prompt as a whole, (batch, dim), and masks
    (batch, prompt_tokens), where True marks a real token. A model that attends to padding has no masks.
    """

    prompt_embeds: Tensor
    prompt_attention_mask: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    negative_prompt_attention_mask: Tensor | None = None
    pooled_prompt_embeds: Tensor | None = None
    negative_pooled_prompt_embeds: Tensor | None = None
    sizes: Tensor | None = None
    """Sizes that some models are told beside the prompt, (batch, numbers)."""
    negative_sizes: Tensor | None = None
    """None: those of the prompts."""
    cut_off: tuple[str, ...] = ()
    """What of each prompt did not fit into the text encoder's window; empty strings where all did."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Those that there are, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def repeated(self, times: int) -> Prompts:
        """Each row that many times in a row."""
        rows: dict[str, Any] = {name: value.repeat_interleave(times, 0) for name, value in self.tensors.items()}
        return replace(self, **rows)

    def trimmed(self) -> Prompts:
        """Without the columns that are padding in every row; masked attention never sees them."""
        masks = [mask for mask in (self.prompt_attention_mask, self.negative_prompt_attention_mask) if mask is not None]
        if not masks:
            return self
        used = torch.cat([mask.bool() for mask in masks]).any(0).nonzero()
        length = int(used.max()) + 1 if len(used) else 1
        cut: dict[str, Any] = {
            name: value[:, :length]
            for name, value in self.tensors.items()
            if name.endswith(("prompt_embeds", "mask")) and "pooled" not in name
        }
        return replace(self, **cut)

    @property
    def positive(self) -> Prompts:
        """The prompts alone."""
        pooled = self.pooled_prompt_embeds
        return Prompts(self.prompt_embeds, self.prompt_attention_mask, pooled_prompt_embeds=pooled, sizes=self.sizes)

    @property
    def negative(self) -> Prompts | None:
        """The negative prompts as prompts, if there are such."""
        embeds, mask = self.negative_prompt_embeds, self.negative_prompt_attention_mask
        if embeds is None:
            return None
        sizes = self.sizes if self.negative_sizes is None else self.negative_sizes
        return Prompts(embeds, mask, pooled_prompt_embeds=self.negative_pooled_prompt_embeds, sizes=sizes)

    def followed_by(self, others: Prompts) -> Prompts:
        """A batch of these prompts and then of others, whose devices decide."""
        mine = self.tensors
        rows: dict[str, Any] = {
            name: torch.cat([mine[name].to(value.device), value]) for name, value in others.tensors.items()
        }
        return Prompts(**rows)


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
    with _tokenising:
        tokens = tokenizer(texts, padding="max_length", **options)
        cut_off = tuple(_cut_off(tokenizer, text, max_length) for text in texts)
    for text in filter(None, cut_off):
        logger.warning("The prompt is longer than %d tokens; this part of it is not used: %r", max_length, text)
    mask = tokens.attention_mask.bool()
    device = execution_device(text_encoder)
    masked = {"attention_mask": mask.to(device)} if masks_encoder else {}
    embeds = text_encoder(tokens.input_ids.to(device), **masked)[0]
    return Prompts(embeds, mask, cut_off=cut_off)


def encode_clip_text(
    tokenizer: Any, text_encoder: Any, texts: Sequence[str], *, skip: int | None = None, num_parts: int = 1
) -> Prompts:
    """Texts encoded by a CLIP text encoder (arXiv:2103.00020), without a mask.

    Args:
        skip: how many of the encoder's last layers are left out; None takes all, as 0 does.
        num_parts: longer texts are cut into so many parts of the encoder's window, whose embeddings are joined.
    """
    window = tokenizer.model_max_length
    rows, cut_off = [], []
    for text in texts:
        tokens = _tokens(tokenizer, text)
        size = window - 2  # beside the marks of begin and end
        parts = [tokens[i * size : (i + 1) * size] for i in range(num_parts)]
        rows.append([_framed(tokenizer, part) for part in parts])
        cut_off.append(str(tokenizer.decode(tokens[num_parts * size :], skip_special_tokens=True)).strip())
    for text in filter(None, cut_off):
        logger.warning("The prompt is longer than %d tokens; this part of it is not used: %r", window, text)
    device = execution_device(text_encoder)
    ids = torch.tensor(rows, device=device)  # (batch, parts, window)
    mask = None
    if getattr(text_encoder.config, "use_attention_mask", False):
        mask = (ids != tokenizer.pad_token_id).flatten(0, 1)
    encoded = text_encoder(ids.flatten(0, 1), attention_mask=mask, output_hidden_states=skip is not None)
    embeds = encoded[0]
    if skip is not None:
        # One release of transformers keeps the layers a level deeper than the other.
        norm = getattr(text_encoder, "text_model", text_encoder).final_layer_norm
        embeds = norm(encoded.hidden_states[-1 - skip])
    return Prompts(embeds.unflatten(0, (-1, num_parts)).flatten(1, 2), cut_off=tuple(cut_off))


def num_clip_parts(tokenizer: Any, texts: Sequence[str]) -> int:
    """Windows that the longest of the texts takes."""
    size = tokenizer.model_max_length - 2
    return max(1, *(-(-len(_tokens(tokenizer, text)) // size) for text in texts))


def _tokens(tokenizer: Any, text: str) -> list[int]:
    """All tokens of a text, without marks."""
    with _tokenising:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def _framed(tokenizer: Any, ids: list[int]) -> list[int]:
    """Tokens between the marks of begin and end, padded to the window."""
    framed = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return framed + [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(framed))


def _cut_off(tokenizer: Any, text: str, max_length: int) -> str:
    ids = tokenizer(text, add_special_tokens=True).input_ids
    if len(ids) <= max_length:
        return ""
    return str(tokenizer.decode(ids[max_length - 1 :], skip_special_tokens=True)).strip()
