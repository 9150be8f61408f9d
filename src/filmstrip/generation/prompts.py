"""Prompts as networks take them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor

from filmstrip.generation.conditions import Rows
from filmstrip.generation.events import TOLD
from filmstrip.generation.finite import check_finite
from filmstrip.generation.request import check_prompts
from filmstrip.memory.residency import execution_device

if TYPE_CHECKING:
    from filmstrip.generation.session import Session

logger = logging.getLogger(__name__)

# Tokenizers keep how they pad and cut, which every call sets anew: calls that share one take turns.
_tokenising = Lock()


@dataclass(frozen=True)
class Prompts(Rows):
    """Encoded prompts, and the negative prompts of guided runs; one row for each video.

    Embeddings are (batch, prompt_tokens, dim), pooled ones, of each prompt as a whole, (batch, dim), and masks
    (batch, prompt_tokens), where True marks a real token. A model that attends to padding has no masks. Models that are
    conditioned on more have fields of their own beside these.
    """

    prompt_embeds: Tensor
    prompt_attention_mask: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    negative_prompt_attention_mask: Tensor | None = None
    pooled_prompt_embeds: Tensor | None = None
    negative_pooled_prompt_embeds: Tensor | None = None
    cut_off: tuple[str, ...] = ()
    """What of each prompt did not fit into the text encoder's window; empty strings where all did."""

    @classmethod
    def of(cls: type[PromptsType], prompts: Prompts, **more: Any) -> PromptsType:
        """Prompts with what a model is conditioned on besides."""
        return cls(**{one.name: getattr(prompts, one.name) for one in fields(Prompts)}, **more)

    def trimmed(self: PromptsType) -> PromptsType:
        """Without the columns that are padding in every row; masked attention never sees them."""
        masks = [mask for mask in (self.prompt_attention_mask, self.negative_prompt_attention_mask) if mask is not None]
        if not masks:
            return self
        used = torch.cat([mask.bool() for mask in masks]).any(0).nonzero()
        length = int(used.max()) + 1 if len(used) else 1
        cut: dict[str, Any] = {name: self.tensors[name][:, :length] for name in _PER_TOKEN & self.tensors.keys()}
        return replace(self, **cut)

    @property
    def positive(self: PromptsType) -> PromptsType:
        """The prompts alone."""
        nothing: dict[str, Any] = dict.fromkeys(_NEGATIVE)
        return replace(self, **nothing)

    @property
    def negative(self: PromptsType) -> PromptsType | None:
        """The negative prompts as prompts, if there are such."""
        if self.negative_prompt_embeds is None:
            return None
        turned: dict[str, Any] = {name.removeprefix("negative_"): getattr(self, name) for name in _NEGATIVE}
        return replace(self.positive, **turned)


PromptsType = TypeVar("PromptsType", bound=Prompts)
_NEGATIVE = tuple(field.name for field in fields(Prompts) if field.name.startswith("negative_"))
_PER_TOKEN = {field.name for field in fields(Prompts) if "prompt" in field.name and "pooled" not in field.name}


EncodeTexts = Callable[[Sequence[str], int], Prompts]
"""Texts and the number of tokens that each is padded or cut to; gives the positive half of `Prompts`."""


def encode_prompts(
    max_length: int,
    encode: EncodeTexts,
    texts: Sequence[str] | None,
    negatives: Sequence[str] | None,
    embeds: Mapping[str, Tensor | None],
    encode_negatives: EncodeTexts | None = None,
) -> Prompts:
    """Prompts and negative prompts encoded, with the embeddings that were given in their place.

    Args:
        encode_negatives: how negative prompts are, if not as prompts.
        negatives: None if there is no guidance, or if their embeddings were given.
        embeds: the call's prompt_embeds, ..., each None or in place of a text.
    """
    given: dict[str, Any] = {name: value for name, value in embeds.items() if value is not None}
    made: dict[str, Any] = {}
    if texts is not None:
        encoded = encode(texts, max_length)
        warn_of_cut_off("prompt", encoded.cut_off, max_length)
        made = dict(vars(encoded))
    if negatives is not None:
        length = max_length if texts is not None else given["prompt_embeds"].shape[1]
        against = (encode_negatives or encode)(negatives, length)
        warn_of_cut_off("negative prompt", against.cut_off, length)
        made["negative_prompt_embeds"] = against.prompt_embeds
        made["negative_prompt_attention_mask"] = against.prompt_attention_mask
    return Prompts(**{**made, **given})


def encoded_prompts(session: Session[Any], encode: Callable[..., PromptsType]) -> PromptsType:
    """The prompts of a run, one row for each video, as `encode` makes them, and checked.

    Args:
        encode: called with the prompts, the negative prompts and the embeddings given in their place.
    """
    request, arguments = session.request, session.request.arguments
    embeds = {name: one for name, one in arguments.embeds.items() if arguments.is_guided or not name.startswith("neg")}
    prompts = encode(request.prompts, request.negative_prompts, embeds)
    session.report.cut_off = prompts.cut_off
    for tensor in prompts.tensors.values():
        check_finite(tensor, "text_encoder")
    return prompts.repeated(request.num_videos_per_prompt)


def embeddings(
    encode: Callable[..., Prompts],
    prompt: str | Sequence[str] | None,
    negative_prompt: str | Sequence[str] | None,
    embeds: Mapping[str, Tensor | None],
    *,
    is_guided: bool,
    times: int,
    device: str | torch.device | None,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor | None, ...]:
    """What a pipeline's `encode_prompt` gives: the embeddings and masks under the names of `embeds`, in their order.

    Args:
        encode: as `encoded_prompts` has it.
        times: rows of each prompt.
        device, dtype: where and, but for masks, as what they are wanted; as the text encoder gives them if None.
    """
    texts, negatives, _ = check_prompts(prompt, negative_prompt, embeds, is_guided=is_guided)
    with torch.no_grad():
        encoded = encode(texts, negatives, embeds).repeated(times)
    rows = ((getattr(encoded, name), None if name.endswith("mask") else dtype) for name in embeds)
    return tuple(None if one is None else one.to(device, wanted) for one, wanted in rows)


def warn_of_cut_off(of: Literal["prompt", "negative prompt"], cut_off: Iterable[str], max_length: int) -> None:
    """Say what of texts did not fit into the text encoder's window; of prompts, a run's report says so as well."""
    told = TOLD if of == "prompt" else {}
    for text in filter(None, cut_off):
        logger.warning(
            "The %s is longer than %d tokens; this part of it is not used: %r", of, max_length, text, extra=told
        )


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
