"""Choosing the quickest way of working that fits into a given memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from filmstrip.memory.residency import Grain
from filmstrip.memory.sizes import nbytes

# Bytes a second that come to a device over PCIe 4.0, in practice: what copying is priced by.
COPY_RATE = 12e9
# Of the memory given, what a plan may fill: allocators lose some to gaps.
USABLE = 0.95


@dataclass(frozen=True)
class Choice:
    """One thing that a plan does, and what that costs."""

    kind: str
    """What it is about: "weights", "residency", "guidance", "feed-forward" or "decoding"."""
    value: Any
    said: str
    """What is done, in words."""
    cost: float = 0.0
    """Seconds, roughly, that it adds to a run: plans are compared by the sum."""
    price: str = ""
    """What it costs, in words; empty if nothing."""


Choices = tuple[Choice, ...]


def total_cost(*groups: Choices) -> float:
    """What all these choices cost together."""
    return sum(choice.cost for choices in groups for choice in choices)


@dataclass(frozen=True)
class Alternatives:
    """What there is to choose from; each list has one set of choices for each way of working."""

    whole: Sequence[Choices]
    """For all stages together."""
    by_stage: Mapping[str, Sequence[Choices]]
    """For one stage alone."""


Need = Callable[[str, Choices, Choices], int]
"""Bytes that a stage needs, by the choices for all stages and those for itself."""


@dataclass(frozen=True)
class Found:
    """The choices of a plan, and what each stage needs with them."""

    whole: Choices
    by_stage: Mapping[str, Choices]
    needs: Mapping[str, int]

    @property
    def choices(self) -> list[Choice]:
        """All of them, those for the whole first."""
        return [*self.whole, *(choice for choices in self.by_stage.values() for choice in choices)]

    @property
    def cost(self) -> float:
        """Their costs together."""
        return sum(choice.cost for choice in self.choices)

    @property
    def peak(self) -> int:
        """What the stage needs that needs most."""
        return max(self.needs.values())


def cheapest(
    alternatives: Alternatives, need: Need, memory: float, floor: Callable[[Choices], int] | None = None
) -> Found | None:
    """The choices that cost least of those with which every stage fits into so many bytes; None if none does.

    What does not fit does not fit into less, so more memory never makes a plan cost more.

    Args:
        floor: bytes that some stage needs at the least with the choices for all stages, known without measuring.
    """
    best: Found | None = None
    for whole in sorted(alternatives.whole, key=total_cost):
        if best is not None and total_cost(whole) >= best.cost:
            break
        if floor is not None and floor(whole) > memory:
            continue
        chosen: dict[str, Choices] = {}
        for stage, ways in alternatives.by_stage.items():
            fits = (way for way in sorted(ways, key=total_cost) if need(stage, whole, way) <= memory)
            if (way := next(fits, None)) is None:
                break
            chosen[stage] = way
        else:
            found = _found(whole, chosen, need)
            best = found if best is None or found.cost < best.cost else best
    return best


def smallest(alternatives: Alternatives, need: Need) -> Found:
    """The choices with which the stage that needs most needs least.

    The last ways are tried first, since they are meant to need least; others are, for the stage that needs most.
    """
    found: Found | None = None
    for whole in reversed(alternatives.whole):
        chosen = {stage: ways[-1] for stage, ways in alternatives.by_stage.items()}
        tried: set[str] = set()
        while True:
            one = _found(whole, chosen, need)
            stage = max(one.needs, key=lambda name: one.needs[name])
            if stage in tried:
                break
            tried.add(stage)
            ways = alternatives.by_stage[stage]
            chosen[stage] = min(ways, key=lambda way: (need(stage, whole, way), total_cost(way)))
        found = one if found is None or (one.peak, one.cost) < (found.peak, found.cost) else found
    assert found is not None, "there is always a way"
    return found


def _found(whole: Choices, chosen: dict[str, Choices], need: Need) -> Found:
    return Found(whole, chosen, {stage: need(stage, whole, way) for stage, way in chosen.items()})


def largest_passing(network: nn.Module, grain: Grain) -> int:
    """Bytes of the largest of a network's units that come and go."""
    return max((nbytes_of(modules) for modules, stays in grain.divide(network) if not stays), default=0)


def nbytes_of(modules: Iterable[nn.Module]) -> int:
    """Bytes of the modules' own weights, tied ones once."""
    own = (one for m in modules for one in (*m.parameters(recurse=False), *m.buffers(recurse=False)))
    return nbytes(own)
