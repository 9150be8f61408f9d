"""The memory of a request, stage by stage: what it needs beside weights, found without carrying it out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from filmstrip.fitting.ledger import AsWithValues, Ledger, Peaks, replay, without_values
from filmstrip.fitting.presence import GRAINS, Presence
from filmstrip.fitting.results import Results
from filmstrip.fitting.search import largest_passing, nbytes_of
from filmstrip.generation.arguments import Arguments
from filmstrip.generation.request import Request
from filmstrip.generation.session import Session
from filmstrip.kernels.valueless import standing_for
from filmstrip.memory.coding import Way
from filmstrip.memory.residency import Grain

STAGES = ("encode", "denoise", "decode")
# Runs of frames after which decoding is taken to go on as it did, if they were all alike: the first differ.
ENOUGH_RUNS = 3
# Operations after which it is in any case, once it has given as many runs.
ENOUGH_OPERATIONS = 30_000
_WINDOW = 512  # tokens of a text encoder that names no limit
Types = Mapping[str, torch.dtype]
"""From the name of a network, the type of its weights; others keep their own."""
Stays = Mapping[tuple[str, str], int]
"""Bytes that stay of a network as long as it works, by its name and grain."""


@dataclass(frozen=True)
class Footprint:
    """What a request needs on the device that does the work."""

    peaks: Mapping[tuple[str, str], Peaks]
    """The most bytes by stage and by the network whose weights were there ("" before the first)."""
    calls: Mapping[str, int]
    """How often each network was called."""

    beside: Mapping[tuple[str, str], frozenset[str]]
    """The networks that had stayed on the device beside that one."""
    at_work: Mapping[str, Sequence[str]]
    """The networks that work in each stage."""

    def activations(self, stage: str) -> int:
        """The most bytes in a stage, beside weights."""
        return max((most[0] for (of, _), most in self.peaks.items() if of == stage), default=0)

    def holders(self, stage: str) -> list[str]:
        """The networks whose weights are there at some time in a stage; "" for a time when none are."""
        return [holder for of, holder in self.peaks if of == stage]

    def with_weights(self, stage: str, holder: str, grains: Mapping[str, str], stays: Stays) -> int:
        """The most bytes while the weights of a network are there, by the grain in which each network comes."""
        most = self.peaks[stage, holder]
        if not holder:
            return most[0]
        others = sum(stays[name, grains[name]] for name in self.beside[stage, holder])
        return most[1 + GRAINS.index(grains[holder])] + others


def footprint(pipeline: Any, request: Request[Any], device_type: str) -> Footprint:
    """The memory of a request on a device of that kind, as the pipeline is set."""
    rehearsal = Rehearsal(pipeline, request, device_type)
    denoising, decoding = rehearsal.denoise(), rehearsal.decode()
    return Footprint(
        {**denoising.peaks, **decoding.peaks},
        denoising.calls,
        {**denoising.beside, **decoding.beside},
        {**denoising.at_work, "decode": decoding.at_work["decode"]},
    )


class Rehearsal:
    """A request gone through without values, in one way after another; the pipeline stays as it is.

    Args:
        pipeline: a pipeline, or the outline of one: texts are taken to fill the encoder's window where there is no
            tokenizer.
        device_type: the kind of the device that is to do the work.
        types: what the networks are to be in.
    """

    def __init__(self, pipeline: Any, request: Request[Any], device_type: str, types: Types | None = None) -> None:
        self.recipe = _shadow(pipeline, types or {})
        self.networks: dict[str, nn.Module] = self.recipe.networks
        self._device_type = device_type
        generator = [torch.Generator() for _ in request.generator] if isinstance(request.generator, list) else None
        self._request = replace(request, generator=generator or torch.Generator())
        self._forwards = {name: network.forward for name, network in self.networks.items()}
        self._latents: Tensor | None = None
        self._kept = 0
        self._results = Results()
        self._presence = Presence(self.networks, self.recipe._work_together)
        self._empty = self._left = self._presence.state()
        self.stays: Stays = self._presence.staying()
        self.sizes = {name: nbytes_of(one.modules()) for name, one in self.networks.items()}
        """Bytes of each network's weights."""
        self.largest_blocks = {name: largest_passing(one, Grain("blocks")) for name, one in self.networks.items()}

    def denoise(self, arguments: Arguments | None = None) -> Footprint:
        """The memory of the stages before decoding, with these arguments in place of the request's own."""
        request = self._request if arguments is None else replace(self._request, arguments=arguments)
        with self._counting(request) as ledger:
            for name, network in self.networks.items():
                network.forward = self._forwards[name]
                replay(network, name, ledger)
            self._latents = self._denoised(request, ledger)
        self._kept, self._left = ledger.live, ledger.presence.state()
        return _footprint_of(ledger)

    def decode(self, way: Way | None = None) -> Footprint:
        """The memory of decoding what `denoise` gave, in a way or as the autoencoder is set."""
        assert self._latents is not None, "denoising comes first"
        for name, network in self.networks.items():
            network.forward = self._forwards[name]
        with self._counting(self._request, self._latents) as ledger:
            ledger.live = self._kept
            ledger.presence.go_on_from(self._left)
            ledger.enter("decode")
            session, coding = Session(self.recipe, self._request), None if way is None else way.coding
            runs = self.recipe.decode(session, self.recipe.vae, self._latents, coding)
            seen: list[Any] = []
            for frames in runs:  # each stays until the next has come, as with any reader
                seen.append((frames.shape, ledger.live, dict(ledger.peaks)))
                is_steady = len(seen) > ENOUGH_RUNS and all(one == seen[-1] for one in seen[-ENOUGH_RUNS:])
                if is_steady or (len(seen) > ENOUGH_RUNS and ledger.operations > ENOUGH_OPERATIONS):
                    break
        return _footprint_of(ledger)

    def _denoised(self, request: Request[Any], ledger: Ledger) -> Tensor:
        session = Session(self.recipe, request)
        ledger.enter("encode")
        conditions = self.recipe.encode(session)
        ledger.enter("denoise")
        for step in self.recipe.steps(session, conditions):
            latents: Tensor = step.latents
        return latents

    @contextmanager
    def _counting(self, request: Request[Any], *given: Tensor) -> Iterator[Ledger]:
        known = [one for one in tree_leaves([vars(request), vars(request.arguments)]) if isinstance(one, Tensor)]
        self._presence.go_on_from(self._empty)
        ledger = Ledger(
            self.networks,
            [*known, *given],
            on_cpu=self._device_type == "cpu",
            results=self._results,
            presence=self._presence,
        )
        with torch.no_grad(), standing_for(self._device_type, ledger), AsWithValues(), ledger:
            yield ledger


def _footprint_of(ledger: Ledger) -> Footprint:
    beside = {key: frozenset(names) for key, names in ledger.beside.items()}
    at_work = {stage: tuple(ledger.at_work[stage]) for stage in STAGES}  # in some stage there may be none
    return Footprint(dict(ledger.peaks), dict(ledger.calls), beside, at_work)


def _shadow(pipeline: Any, types: Types) -> Any:
    """The pipeline with networks that have no values, and with tokenizers that need no files."""
    shadow = copy.copy(pipeline)
    components = dict(pipeline.components)
    for name, component in components.items():
        if isinstance(component, nn.Module):
            components[name] = without_values(component, types.get(name))
        elif component is None and name.startswith("tokenizer"):
            components[name] = FullTokenizer(components.get(name.replace("tokenizer", "text_encoder")))
    shadow.__dict__["components"] = components
    return shadow


class FullTokenizer:
    """In place of a tokenizer that is not there: every text has as many tokens as there is room for."""

    bos_token_id = eos_token_id = pad_token_id = 0

    def __init__(self, text_encoder: Any) -> None:
        config = getattr(text_encoder, "config", None)
        self.model_max_length = getattr(config, "max_position_embeddings", _WINDOW)

    def __call__(self, texts: Any, *, max_length: int | None = None, **_: Any) -> Any:
        """Ids of texts that fill `max_length`; without it, of one text by itself."""
        if max_length is None:
            return SimpleNamespace(input_ids=[])
        ids = torch.zeros(len(texts), max_length, dtype=torch.long)
        return SimpleNamespace(input_ids=ids, attention_mask=torch.ones_like(ids))

    def decode(self, ids: Any, **_: Any) -> str:
        """What is cut off of a text: nothing."""
        return ""
