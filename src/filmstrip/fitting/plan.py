"""Fitting a pipeline into a given memory: from its rehearsals to a plan, and from the plan to its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, product
from typing import Any

import torch
from PIL import Image

from filmstrip.checkpoints.saving import parse_size
from filmstrip.checkpoints.tensors import is_mapped
from filmstrip.devices import STREAMED, free_memory, has_streams, supports_dtype
from filmstrip.fitting.rehearsal import STAGES, Footprint, Rehearsal, Types
from filmstrip.fitting.search import (
    COPY_RATE,
    USABLE,
    Alternatives,
    Choice,
    Choices,
    Found,
    cheapest,
    smallest,
    total_cost,
)
from filmstrip.generation.arguments import Arguments, arguments_named, completed, facts_of
from filmstrip.generation.request import Request
from filmstrip.memory.coding import Way, smaller_ways
from filmstrip.memory.sizes import in_words

CHUNK_TOKENS = 1024
# What choices cost that no copying or computing explains, in the seconds of `Choice.cost`.
HALF_COST, IN_TURN_COST, CHUNKS_COST, SMALLER_COST, SEAMS_COST, DECODING_SECONDS = 5.0, 1.0, 2.0, 0.5, 5.0, 10.0
MAPPED_COST = 3.0
MAPPED = "mapped"
_SIDE = 512  # of a picture, where nothing says how large it is
# How much of the copying is waited for: layers have much to do beside it; groups are copied while others compute.
WAITING = {"components": 1.0, "blocks": 1.0, "leaves": 1.5}
STREAMED_WAITING = 0.5


class DoesNotFitError(ValueError):
    """No way of working needs as little memory as there is."""


@dataclass(frozen=True)
class Plan:
    """How a request is to be carried out within a memory, and what it is predicted to need."""

    memory: int
    """Bytes that may be used."""
    device: str
    choices: tuple[Choice, ...]
    needs: Mapping[str, int]
    """Bytes that each stage needs at its most, weights included."""
    activations: Mapping[str, int]
    """What of that is not weights."""
    before: Mapping[str, Any] = field(default_factory=dict)
    """What the autoencoder was set to, of that which the plan sets."""

    @property
    def peak(self) -> int:
        """What the stage needs that needs most."""
        return max(self.needs.values())

    @property
    def cost(self) -> float:
        """Seconds, roughly, that the choices add to a run where memory is no matter."""
        return total_cost(self.choices)

    def chosen(self, kind: str) -> Any:
        """The value of the choice of that kind, None if there is none."""
        return next((choice.value for choice in self.choices if choice.kind == kind), None)

    def lines(self) -> Iterator[tuple[str, str]]:
        """The plan in words: a name and what is to be said about it."""
        yield "memory", f"{in_words(self.memory)} on {self.device}"
        for choice in self.choices:
            yield choice.kind, choice.said + (f" ({choice.price})" if choice.price else "")
        for stage, need in self.needs.items():
            working = self.activations[stage]
            yield (
                stage,
                f"{in_words(need)} at its most: weights {in_words(need - working)}, work {in_words(working)}",
            )

    def __str__(self) -> str:
        return "\n".join(f"{name:12}{said}" for name, said in self.lines())


class Planner:
    """The ways in which a pipeline can carry out a request on a device, and what each needs.

    Args:
        pipeline: a pipeline or the outline of one.
        stored: of an outline, the types of its networks' files.
    """

    def __init__(self, pipeline: Any, request: Request[Any], device: torch.device, stored: Types | None = None) -> None:
        self._pipeline, self._request, self._device = pipeline, request, device
        self._stored = dict(stored or {})
        self._rehearsals: dict[torch.dtype | None, Rehearsal] = {}
        self._footprints: dict[Any, Footprint] = {}

    def plan(self, memory: int) -> Plan:
        """The quickest plan within so many bytes.

        Raises:
            DoesNotFitError: there is none; says what would do.
        """
        found = cheapest(self.alternatives, self.need, memory * USABLE)
        if found is None:
            raise DoesNotFitError(self._least(memory))
        return self._plan(found, memory)

    def least(self) -> Plan:
        """The plan that needs least."""
        found = smallest(self.alternatives, self.need)
        return self._plan(found, int(found.peak / USABLE) + 1)

    def need(self, stage: str, whole: Choices, own: Choices) -> int:
        """Bytes that a stage needs with these choices."""
        dtype, residency = whole[0].value, whole[1].value
        working = self._footprint(stage, dtype, own)
        rehearsal = self._rehearsal(dtype)
        if residency is None:
            return working.activations(stage) + sum(rehearsal.sizes.values())
        if residency == MAPPED:
            return working.activations(stage) + sum(rehearsal.sizes[name] for name in working.at_work[stage])
        is_streamed = set(residency.values()) == {"blocks"} and self._device.type in STREAMED
        return max(
            working.with_weights(stage, holder, residency, rehearsal.stays)
            # comes while another computes
            + (rehearsal.largest_blocks.get(holder, 0) if is_streamed else 0)
            for holder in working.holders(stage)
        )

    def activations(self, stage: str, found: Found) -> int:
        """What of a stage's need is not weights."""
        return self._footprint(stage, found.whole[0].value, found.by_stage[stage]).activations(stage)

    @cached_property
    def alternatives(self) -> Alternatives:
        """All that there is to choose from."""
        whole = [(dtype, residency) for dtype in self._types() for residency in self._residencies(dtype)]
        return Alternatives(
            whole, {"encode": [()], "denoise": list(self._denoising()), "decode": list(self._decoding())}
        )

    # ---- what there is to choose from ------------------------------------------------------------------------------

    def _types(self) -> Iterator[Choice]:
        kept = {self._stored.get(name, one.dtype) for name, one in self._pipeline.networks.items()}
        names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in kept))
        yield Choice("weights", None, f"{names}, as they are")
        half = torch.bfloat16 if supports_dtype(self._device, torch.bfloat16) else torch.float16
        if torch.float32 in kept and not self._pipeline.quantized:
            name = str(half).removeprefix("torch.")
            yield Choice("weights", half, name, HALF_COST, "half the memory and quicker; numbers are rounded")

    def _residencies(self, dtype: Choice) -> Iterator[Choice]:
        if self._device.type == "cpu":
            yield Choice("residency", None, "all weights in memory")
            if dtype.value is None and all(map(_lies_in_files, self._pipeline.networks.values())):
                price = "those that the system drops are read from their files again"
                yield Choice("residency", MAPPED, "the weights of the network at work", MAPPED_COST, price)
            return
        yield Choice("residency", None, f"all weights on {self._device}")
        calls = self._footprint("denoise", dtype.value, ()).calls
        used = {name for stage in STAGES for name in self._footprint(stage, dtype.value, ()).at_work[stage]}
        sizes = {name: self._rehearsal(dtype.value).sizes[name] for name in sorted(used)}
        often = {name: size * max(1, calls.get(name, 1)) for name, size in sizes.items()}
        for in_blocks in (names for count in range(len(sizes)) for names in combinations(sizes, count)):
            copied = sum(often[name] if name in in_blocks else size for name, size in sizes.items())
            said = "one network at a time comes to the device, whole"
            said += f" but {' and '.join(in_blocks)}, block by block" if in_blocks else ""
            yield _moving(dict.fromkeys(sizes, "components") | dict.fromkeys(in_blocks, "blocks"), said, copied)
        for grain, said in (("blocks", "block"), ("leaves", "layer")):
            said = f"one {said} of a network at a time comes to the device"
            yield _moving(dict.fromkeys(sizes, grain), said, sum(often.values()))

    def _denoising(self) -> Iterator[Choices]:
        guidances: list[Choices] = [()]
        if self._request.arguments.in_turn() is not None:
            price = "two calls of half the size: no slower for large videos"
            guidances.append((Choice("guidance", True, "for the prompt and against it in turn", IN_TURN_COST, price),))
        chunked: list[Choices] = [()]
        feed_forwards = [
            one for n in self._pipeline.networks.values() for one in n.modules() if hasattr(one, "chunking")
        ]
        if feed_forwards and all(one.chunking is None for one in feed_forwards):  # else the user has chosen
            said = f"feed-forward layers take {CHUNK_TOKENS} tokens at a time"
            chunked.append((Choice("feed-forward", CHUNK_TOKENS, said, CHUNKS_COST, "a few percent of time"),))
        for guidance, chunks in product(guidances, chunked):
            yield (*guidance, *chunks)

    def _decoding(self) -> Iterator[Choices]:
        yield ()
        size = self._request.size
        for number, way in enumerate(smaller_ways(self._pipeline.vae, size.height, size.width), 1):
            work = way.work(size.height, size.width) if way.tile else 1.0
            price = f"{work:.2f} times the work of decoding" if way.tile else "little time"
            seams = SEAMS_COST if way.tile else 0.0
            cost = number * SMALLER_COST + seams + DECODING_SECONDS * (work - 1)
            yield (Choice("decoding", way, way.name, cost, price),)

    # ---- what each needs -------------------------------------------------------------------------------------------

    def _rehearsal(self, dtype: torch.dtype | None) -> Rehearsal:
        if dtype not in self._rehearsals:
            types = self._stored if dtype is None else dict.fromkeys(self._pipeline.networks, dtype)
            made = Rehearsal(self._pipeline, self._request, self._device.type, types)
            self._footprints[dtype, "denoise", ()] = made.denoise()
            self._rehearsals[dtype] = made
        return self._rehearsals[dtype]

    def _footprint(self, stage: str, dtype: torch.dtype | None, own: Choices) -> Footprint:
        rehearsal = self._rehearsal(dtype)
        stage = "decode" if stage == "decode" else "denoise"
        values = tuple(
            (choice.kind, choice.value if choice.kind != "decoding" else choice.value.name) for choice in own
        )
        key = dtype, stage, values
        if key not in self._footprints:
            chosen = {choice.kind: choice.value for choice in own}
            if stage == "decode":
                self._footprints[key] = rehearsal.decode(chosen.get("decoding"))
            else:
                if (num_tokens := chosen.get("feed-forward")) is not None:
                    _set_chunks(rehearsal.networks, num_tokens)
                in_turn = self._request.arguments.in_turn() if chosen.get("guidance") else None
                self._footprints[key] = rehearsal.denoise(in_turn)
                if num_tokens is not None:
                    _set_chunks(rehearsal.networks, None)
        return self._footprints[key]

    def _plan(self, found: Found, memory: int) -> Plan:
        activations = {stage: self.activations(stage, found) for stage in found.needs}
        return Plan(memory, str(self._device), tuple(found.choices), found.needs, activations)

    def _least(self, memory: int) -> str:
        least, size = self.least(), self._request.size
        stage = max(least.needs, key=lambda one: least.needs[one])
        what = f"{size.width}x{size.height}" + (f" with {size.num_frames} frames" if size.num_frames > 1 else "")
        return (
            f"{what} does not fit into {in_words(memory)} on {self._device}: {stage} needs {in_words(least.peak)}"
            f" even so ({'; '.join(choice.said for choice in least.choices)}). Give {in_words(least.memory)}, or make"
            " a smaller or shorter video."
        )


def fit(pipeline: Any, request: Request[Any], device: torch.device, memory: int | str | None) -> Request[Any]:
    """Set a pipeline so that a request keeps within a memory; returns the request as it then is to be made.

    Raises:
        DoesNotFitError: no way needs as little; says what would do.
    """
    set_back(pipeline)
    plan = Planner(pipeline, request, device).plan(memory_of(memory, device))
    apply(plan, pipeline)
    in_turn = request.arguments.in_turn() if plan.chosen("guidance") else None
    return request if in_turn is None else replace(request, arguments=in_turn)


def memory_of(memory: int | str | None, device: torch.device) -> int:
    """Bytes that a size such as "8GB" stands for; for "free", or None, those that are free on the device."""
    if memory is None or memory == "free":
        return free_memory(device)
    return parse_size(memory)


def usual_request(pipeline: Any, arguments: Mapping[str, Any]) -> Request[Any]:
    """The request of a call with these arguments, and with something in place of a text or of pictures that it needs.

    Raises:
        ValueError: as the call itself would, were all that given.
    """
    kind: type[Arguments] = type(pipeline).arguments
    takes = completed(arguments_named(kind, arguments, type(pipeline).__name__), pipeline.defaults)
    facts = facts_of(kind)
    lacking = {
        name: fact.role
        for name, fact in facts.items()
        if getattr(takes, name) is None and (not fact.instead or getattr(takes, fact.instead, None) is None)
    }
    sides = [getattr(takes, name) or _SIDE for name, fact in facts.items() if fact.role == "side"]
    height, width = sides or (_SIDE, _SIDE)
    lengths = [given for name, fact in facts.items() if fact.role == "length" and (given := getattr(takes, name))]
    picture = Image.new("RGB", (width, height))
    stand_ins: dict[Any, Any] = {"text": "a", "picture": picture, "clip": [picture] * (lengths or [1])[0]}
    text = {name: stand_ins[role] for name, role in lacking.items() if role == "text"}
    usual = {name: stand_ins[role] for name, role in lacking.items() if role in ("picture", "clip")}
    subsets = [names for count in range(len(usual) + 1) for names in combinations(usual, count)]
    errors: dict[str, list[ValueError]] = {}
    for names in subsets:
        try:
            return pipeline.request(**{**arguments, **text, **{name: usual[name] for name in names}})
        except ValueError as error:
            errors.setdefault(str(error), []).append(error)
    raise max(reversed(errors.values()), key=len)[0]  # what is wrong whatever else is given


def set_back(pipeline: Any) -> None:
    """Undo what an earlier plan set, but for the type of the weights."""
    plan: Plan | None = pipeline.plan
    if plan is None:
        return
    pipeline.remove_all_hooks()
    if plan.chosen("feed-forward") is not None:
        _set_chunks(pipeline.networks, None)
    for name, value in plan.before.items():
        setattr(pipeline.vae, name, value)
    pipeline.plan = None


def _moving(grains: dict[str, str], said: str, copied: int) -> Choice:
    """The choice to have networks come to the device in these grains, for so many bytes in all."""
    kinds = set(grains.values())
    waiting = max(WAITING[kind] for kind in kinds)
    if kinds == {"blocks"}:
        waiting = STREAMED_WAITING
    seconds = waiting * copied / COPY_RATE
    price = f"copies {in_words(copied)}, about {seconds:.2g} s of waiting"
    return Choice("residency", grains, said, 1.0 + waiting + seconds, price)


def apply(plan: Plan, pipeline: Any) -> None:
    """Set a pipeline as a plan says."""
    pipeline.remove_all_hooks()
    if (dtype := plan.chosen("weights")) is not None:
        pipeline.to(dtype)
    device, residency = torch.device(plan.device), plan.chosen("residency")
    if residency in (None, MAPPED):
        pipeline.to(device)
    elif set(residency.values()) == {"blocks"}:
        pipeline.enable_group_offload(device, use_stream=has_streams(device))
    elif set(residency.values()) == {"leaves"}:
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.offload_by_size(device, [name for name, grain in residency.items() if grain == "blocks"])
    if (num_tokens := plan.chosen("feed-forward")) is not None:
        _set_chunks(pipeline.networks, num_tokens)
    way: Way | None = plan.chosen("decoding")
    settings = way.settings if way else {}
    pipeline.plan = replace(plan, before={name: getattr(pipeline.vae, name) for name in settings})
    for name, value in settings.items():
        setattr(pipeline.vae, name, value)


def _set_chunks(networks: Mapping[str, Any], num_tokens: int | None) -> None:
    for network in networks.values():
        if hasattr(network, "enable_forward_chunking"):
            network.disable_forward_chunking()
            if num_tokens is not None:
                network.enable_forward_chunking(num_tokens, dim=1)


def _lies_in_files(network: Any) -> bool:
    return all(map(is_mapped, network.parameters()))
