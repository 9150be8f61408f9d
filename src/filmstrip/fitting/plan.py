"""Fitting a pipeline into a given memory: from its rehearsals to a plan, and from the plan to its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from filmstrip.checkpoints.saving import parse_size
from filmstrip.checkpoints.tensors import is_mapped
from filmstrip.devices import STREAMED, free_memory, has_streams, supports_dtype
from filmstrip.fitting.choices import (
    MAPPED,
    choices_of_decoding,
    choices_of_denoising,
    choices_of_residency,
    choices_of_residency_on_cpu,
    choices_of_types,
)
from filmstrip.fitting.host import waiting_bytes
from filmstrip.fitting.rehearsal import STAGES, Footprint, Rehearsal, Types
from filmstrip.fitting.search import (
    USABLE,
    Alternatives,
    Choice,
    Choices,
    Found,
    cheapest,
    smallest,
    total_cost,
)
from filmstrip.fitting.smaller import what_fits
from filmstrip.generation.request import Request
from filmstrip.memory.coding import Way, smaller_ways
from filmstrip.memory.sizes import in_words


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
    host: int | None = None
    """Bytes of the machine's own memory for weights that wait there; None: the device has no other memory."""

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
        if self.host is not None:
            waits = f"{in_words(self.host)} of the machine's own memory, for weights that wait there"
            yield "host", waits if self.host else "nearly none of the machine's own memory: weights lie in their files"

    def __str__(self) -> str:
        return "\n".join(f"{name:12}{said}" for name, said in self.lines())


class Planner:
    """The ways in which a pipeline can carry out a request on a device, and what each needs.

    Args:
        pipeline: a pipeline or the outline of one.
        stored: of an outline, the types of its networks' files.
        waiting: bytes of each network's weights that do not lie in files; None: as the pipeline's networks are.
        host: bytes of the machine's own memory that may be used beside the device's; None: as many as it takes.
        tell: told what is tried next.
    """

    def __init__(
        self,
        pipeline: Any,
        request: Request[Any],
        device: torch.device,
        stored: Types | None = None,
        *,
        waiting: Mapping[str, int] | None = None,
        host: int | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._pipeline, self._request, self._device = pipeline, request, device
        self._stored = dict(stored or {})
        self._waiting = waiting_bytes(pipeline.networks) if waiting is None else waiting
        self._host, self._tell = host, tell
        self._rehearsals: dict[torch.dtype | None, Rehearsal] = {}
        self._footprints: dict[Any, Footprint] = {}

    def plan(self, memory: int) -> Plan:
        """The quickest plan within so many bytes.

        Raises:
            DoesNotFitError: there is none; says what would do.
        """
        self._check_host()
        found = cheapest(self.alternatives, self.need, memory * USABLE, self.weights)
        if found is None:
            raise DoesNotFitError(self._least(memory))
        return self._plan(found, memory)

    def least(self) -> Plan:
        """The plan that needs least."""
        self._check_host()
        found = smallest(self.alternatives, self.need)
        return self._plan(found, int(found.peak / USABLE) + 1)

    def weights(self, whole: Choices) -> int:
        """Bytes of weights that are on the device at some time, whatever else is there."""
        rehearsal, residency = self._rehearsal(whole[0].value), whole[1].value
        if residency is None:
            return sum(rehearsal.sizes.values())
        if residency == MAPPED:
            return 0
        return max(rehearsal.stays[name, grain] for name, grain in residency.items())

    def host_need(self, whole: Choices) -> int:
        """Bytes of the machine's own memory that weights need beside the device, with these choices."""
        if self._device.type == "cpu":
            return 0
        dtype, residency = whole[0].value, whole[1].value
        rehearsal = self._rehearsal(dtype)
        waiting = sum(self._waiting.values() if dtype is None else rehearsal.sizes.values())
        is_streamed = residency is not None and self._is_streamed(residency)
        return waiting + (2 * max(rehearsal.largest_blocks.values()) if is_streamed else 0)

    def need(self, stage: str, whole: Choices, own: Choices) -> int:
        """Bytes that a stage needs with these choices."""
        dtype, residency = whole[0].value, whole[1].value
        working = self._footprint(stage, dtype, own)
        rehearsal = self._rehearsal(dtype)
        if residency is None:
            return working.activations(stage) + sum(rehearsal.sizes.values())
        if residency == MAPPED:
            return working.activations(stage) + sum(rehearsal.sizes[name] for name in working.at_work[stage])
        is_streamed = self._is_streamed(residency)
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
        whole = [
            one
            for dtype in self._types()
            for one in ((dtype, residency) for residency in self._residencies(dtype))
            if self._host is None or self.host_need(one) <= self._host
        ]
        return Alternatives(
            whole, {"encode": [()], "denoise": list(self._denoising()), "decode": list(self._decoding())}
        )

    def _is_streamed(self, residency: Mapping[str, str]) -> bool:
        return set(residency.values()) == {"blocks"} and self._device.type in STREAMED

    def _check_host(self) -> None:
        """See that weights have room where they wait."""
        if self._host is not None and not self.alternatives.whole:
            needed = sum(self._waiting.values())
            raise DoesNotFitError(
                f"weights that wait for {self._device} need {in_words(needed)} of the machine's own memory, of which"
                f" {in_words(self._host)} is free; load them in the types of their files and not quantised, since they"
                " then stay in the files, or free memory."
            )

    # ---- what there is to choose from ------------------------------------------------------------------------------

    def _types(self) -> Iterator[Choice]:
        kept = {self._stored.get(name, one.dtype) for name, one in self._pipeline.networks.items()}
        half = torch.bfloat16 if supports_dtype(self._device, torch.bfloat16) else torch.float16
        return choices_of_types(kept, None if self._pipeline.quantized else half)

    def _residencies(self, dtype: Choice) -> Iterator[Choice]:
        if self._device.type == "cpu":
            lies_in_files = dtype.value is None and all(map(_lies_in_files, self._pipeline.networks.values()))
            return choices_of_residency_on_cpu(lies_in_files=lies_in_files)
        calls = self._footprint("denoise", dtype.value, ()).calls
        used = {name for stage in STAGES for name in self._footprint(stage, dtype.value, ()).at_work[stage]}
        sizes = {name: self._rehearsal(dtype.value).sizes[name] for name in sorted(used)}
        return choices_of_residency(str(self._device), sizes, calls)

    def _denoising(self) -> Iterator[Choices]:
        feed_forwards = [
            one for n in self._pipeline.networks.values() for one in n.modules() if hasattr(one, "chunking")
        ]
        # else the user has chosen
        may_chunk = bool(feed_forwards) and all(one.chunking is None for one in feed_forwards)
        return choices_of_denoising(
            may_chunk=may_chunk, may_guide_in_turn=self._request.arguments.in_turn() is not None
        )

    def _decoding(self) -> Iterator[Choices]:
        size = self._request.size
        return choices_of_decoding(smaller_ways(self._pipeline.vae, size.height, size.width), size.height, size.width)

    # ---- what each needs -------------------------------------------------------------------------------------------

    def _rehearsal(self, dtype: torch.dtype | None) -> Rehearsal:
        if dtype not in self._rehearsals:
            self._say("the prompt and the steps", dtype, ())
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
            self._say("decoding" if stage == "decode" else "the steps", dtype, own)
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

    def _say(self, stage: str, dtype: torch.dtype | None, own: Choices) -> None:
        if self._tell is not None:
            name = "" if dtype is None else f" in {str(dtype).removeprefix('torch.')}"
            self._tell(f"going through {stage}{name}" + "".join(f", {choice.said}" for choice in own))

    def _plan(self, found: Found, memory: int) -> Plan:
        activations = {stage: self.activations(stage, found) for stage in found.needs}
        host = None if self._device.type == "cpu" else self.host_need(found.whole)
        return Plan(memory, str(self._device), tuple(found.choices), found.needs, activations, host=host)

    def _least(self, memory: int) -> str:
        found, size = smallest(self.alternatives, self.need), self._request.size
        least = self._plan(found, int(found.peak / USABLE) + 1)
        stage = max(least.needs, key=lambda one: least.needs[one])
        what = f"{size.width}x{size.height}" + (f" with {size.num_frames} frames" if size.num_frames > 1 else "")
        usable = memory * USABLE
        share = min((usable - (least.needs[one] - work)) / max(1, work) for one, work in least.activations.items())

        def fits(request: Request[Any]) -> bool:
            self._tell_of(request)
            planner = Planner(self._pipeline, request, self._device, self._stored, waiting=self._waiting)
            return all(planner.need(one, found.whole, own) <= usable for one, own in found.by_stage.items())

        instead = what_fits(self._pipeline, self._request, share, fits)
        advice = f"or make {' or '.join(instead)}" if instead else "since no smaller or shorter video would do"
        return (
            f"{what} does not fit into {in_words(memory)} on {self._device}: {stage} needs {in_words(least.peak)}"
            f" even so ({'; '.join(choice.said for choice in least.choices)}). Give {in_words(least.memory)}, {advice}."
        )

    def _tell_of(self, request: Request[Any]) -> None:
        size = request.size
        self._say(f"{size.width}x{size.height} with {size.num_frames} frames", None, ())


def fit(pipeline: Any, request: Request[Any], device: torch.device, memory: int | str | None) -> Request[Any]:
    """Set a pipeline so that a request keeps within a memory; returns the request as it then is to be made.

    Raises:
        DoesNotFitError: no way needs as little; says what would do.
    """
    set_back(pipeline)
    waiting = waiting_bytes(pipeline.networks)
    present = sum(waiting.values()) if pipeline.device.type == "cpu" else 0  # which is not free, and need not be
    host = None if device.type == "cpu" else free_memory("cpu") + present
    plan = Planner(pipeline, request, device, waiting=waiting, host=host).plan(memory_of(memory, device))
    apply(plan, pipeline)
    in_turn = request.arguments.in_turn() if plan.chosen("guidance") else None
    return request if in_turn is None else replace(request, arguments=in_turn)


def memory_of(memory: int | str | None, device: torch.device) -> int:
    """Bytes that a size such as "8GB" stands for; for "free", or None, those that are free on the device."""
    if memory is None or memory == "free":
        return free_memory(device)
    return parse_size(memory)


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
