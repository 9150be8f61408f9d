"""Which weights would be on a device, if they came to it when they are used, in one grain or another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from filmstrip.memory.residency import Grain
from filmstrip.memory.sizes import parts

GRAINS = ("components", "blocks", "leaves")


class _Division:
    """The units of a network in one grain."""

    def __init__(self, network: nn.Module, grain: Grain) -> None:
        self.unit_of: dict[int, int] = {}
        """By storage, the number of the unit that it belongs to."""
        self.sizes: list[int] = []
        self.stays: set[int] = set()
        for number, (modules, stays) in enumerate(grain.divide(network)):
            own = (one for m in modules for one in (*m._parameters.values(), *m._buffers.values()))
            held = {part.untyped_storage()._cdata: part for one in own if one is not None for part in parts(one)}
            self.sizes.append(sum(part.nbytes for part in held.values()))
            self.unit_of.update(dict.fromkeys(held, number))
            if stays:
                self.stays.add(number)


@dataclass
class _Here:
    """What is there of a network in one grain."""

    staying: set[int] = field(default_factory=set)
    passing: int | None = None

    def size(self, division: _Division) -> int:
        units = self.staying if self.passing is None else {*self.staying, self.passing}
        return sum(division.sizes[one] for one in units)


class Presence:
    """What would be on a device of the networks that were used last, in each of `GRAINS`.

    Networks may come in different grains: what is there of the one that was used last, `now`, is therefore apart from
    what has stayed of those beside it.

    Args:
        together: names of networks that work in turns and therefore stay side by side.
    """

    def __init__(self, networks: Mapping[str, nn.Module], together: Collection[str]) -> None:
        self.holder = ""
        """The network whose weights were used last."""
        self.now = [0] * len(GRAINS)
        """Bytes of its weights that are there, by the grain in which it comes."""
        self._together = frozenset(together)
        self._divisions = {name: [_Division(one, Grain(grain)) for grain in GRAINS] for name, one in networks.items()}
        self._here: dict[str, list[_Here]] = {}
        self._owners: dict[int, str] = {}
        for name, divisions in self._divisions.items():
            self._owners.update(dict.fromkeys(divisions[0].unit_of, name))

    @property
    def beside(self) -> frozenset[str]:
        """The networks that have stayed beside the one that was used last."""
        return frozenset(self._here) - {self.holder}

    def staying(self) -> dict[tuple[str, str], int]:
        """Bytes that stay of each network as long as it works, by its name and grain."""
        return {
            (name, grain): sum(one.sizes[unit] for unit in one.stays)
            for name, divisions in self._divisions.items()
            for grain, one in zip(GRAINS, divisions, strict=True)
        }

    def use(self, storage: int) -> bool:
        """Have the unit of a weight come, and others leave as they would; whether any came."""
        name = self._owners.get(storage)
        if name is None:
            return False
        changed = self._hold(name)
        for index, (one, here) in enumerate(zip(self._divisions[name], self._here[name], strict=True)):
            unit = one.unit_of[storage]
            if unit == here.passing or unit in here.staying:
                continue
            if unit in one.stays:
                here.staying.add(unit)
                here.passing = None
            else:
                here.passing = unit
            self.now[index] = here.size(one)
            changed = True
        return changed

    def state(self) -> Any:
        """What is where, for `go_on_from`."""
        return deepcopy((self.holder, self.now, self._here))

    def go_on_from(self, state: Any) -> None:
        """Have what is there be as it was once."""
        self.holder, self.now, self._here = deepcopy(state)

    def _hold(self, name: str) -> bool:
        if name == self.holder:
            return False
        stay: Iterable[str] = self._together if name in self._together else ()
        self._here = {one: here for one, here in self._here.items() if one in stay}
        for here in self._here.values():
            for one in here:
                one.passing = None
        mine = self._here.setdefault(name, [_Here() for _ in GRAINS])
        self.now = [here.size(one) for one, here in zip(self._divisions[name], mine, strict=True)]
        self.holder = name
        return True
