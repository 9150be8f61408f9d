"""The memory of a request, stage by stage: what it needs beside weights, found without carrying it out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from filmstrip.generation.request import Request
from filmstrip.generation.running import Report
from filmstrip.memory.tracing import FusedAttention, Ledger, replay, without_values
from filmstrip.nn.valueless import standing_for

STAGES = ("encode", "denoise", "decode")
# Operations after which decoding is taken to go on as it began, once it has given so many runs of frames.
ENOUGH_OPERATIONS, ENOUGH_RUNS = 30_000, 4
_WINDOW = 512


@dataclass(frozen=True)
class Footprint:
    """What a request needs on the device that does the work."""

    working: Mapping[tuple[str, str], int]
    """The most bytes beside weights, by stage and by the component that was at work ("" before the first)."""
    weights: Mapping[str, int]
    """Bytes of each component's weights."""

    def components(self, stage: str) -> list[str]:
        """Those that work in a stage."""
        return [name for of, name in self.working if of == stage and name]

    def activations(self, stage: str) -> int:
        """The most bytes beside weights in a stage."""
        return max((size for (of, _), size in self.working.items() if of == stage), default=0)


def footprint(
    pipeline: Any,
    request: Request,
    device_type: str,
    dtype: torch.dtype | None = None,
    *,
    stages: tuple[str, ...] = STAGES,
) -> Footprint:
    """The memory of a request on a device of that kind, with the networks in a type or, for None, in their own.

    Args:
        pipeline: a pipeline or the outline of one; it stays as it is. Texts are taken to fill the encoder's window
            where it has no tokenizer.
        stages: those to go through, in order; without "denoise", decoding begins with latents of the usual shape.
    """
    shadow = _shadow(pipeline, dtype)
    given = [one for one in tree_leaves(dict(request.options)) if isinstance(one, Tensor)]
    ledger = Ledger(shadow.networks, given, on_cpu=device_type == "cpu")
    for name, network in shadow.networks.items():
        replay(network, name, ledger)
    request = replace(request, generator=_fresh_generators(request), output_type="latent")
    with torch.no_grad(), standing_for(device_type), FusedAttention(), ledger:
        _go_through(shadow, request, ledger, stages)
    weights = {
        name: sum(one.nbytes for one in (*network.parameters(), *network.buffers()))
        for name, network in shadow.networks.items()
    }
    return Footprint(dict(ledger.peaks), weights)


def _go_through(recipe: Any, request: Request, ledger: Ledger, stages: tuple[str, ...]) -> None:
    ledger.enter("encode")
    conditions = recipe.encode(request, Report())
    ledger.enter("denoise")
    latents: Tensor | None = None
    for step in recipe.steps(request, conditions):
        latents = step.latents
    if "decode" in stages and latents is not None:
        ledger.enter("decode")
        for number, frames in enumerate(recipe.decode(request, latents), 1):
            del frames
            if number >= ENOUGH_RUNS and ledger.operations > ENOUGH_OPERATIONS:
                break


def _shadow(pipeline: Any, dtype: torch.dtype | None) -> Any:
    """The pipeline with networks that have no values, and with tokenizers that need no files."""
    shadow = copy.copy(pipeline)
    components = dict(pipeline.components)
    for name, component in components.items():
        if isinstance(component, nn.Module):
            components[name] = without_values(component, lambda _, tensor: dtype or tensor.dtype)
        elif component is None and name.startswith("tokenizer"):
            components[name] = FullTokenizer(components.get(name.replace("tokenizer", "text_encoder")))
    shadow.__dict__["components"] = components
    return shadow


def _fresh_generators(request: Request) -> Any:
    if isinstance(request.generator, list):
        return [torch.Generator() for _ in request.generator]
    return torch.Generator()


class FullTokenizer:
    """In place of a tokenizer that is not there: every text has as many tokens as there is room for."""

    bos_token_id = eos_token_id = pad_token_id = 0

    def __init__(self, text_encoder: Any) -> None:
        config = getattr(text_encoder, "config", None)
        self.model_max_length = getattr(config, "max_position_embeddings", _WINDOW)

    def __call__(self, texts: Any, *, max_length: int | None = None, **_: Any) -> Any:
        if max_length is None:  # one text, as it is
            return SimpleNamespace(input_ids=[])
        ids = torch.zeros(len(texts), max_length, dtype=torch.long)
        return SimpleNamespace(input_ids=ids, attention_mask=torch.ones_like(ids))

    def decode(self, ids: Any, **_: Any) -> str:
        return ""
