"""Where weights are: at home until they are used, then as copies on the device that computes, then at home again.

A *unit* is what comes and goes together: the tensors of a network, of some of its blocks, or of one layer. While it is
away from the device, reading any of its tensors as an attribute (`layer.weight`) brings the whole of it in, whoever
reads; listing them (`network.parameters()`, `state_dict()`) shows the tensors at home and moves nothing. So no network
knows of this, nothing is wrapped, and what is computed is the same as without. Homes are never copied nor pinned as a
whole: weights that are mapped from their files stay so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from filmstrip.memory.couriers import Courier, DirectCourier, StreamCourier, like
from filmstrip.memory.sizes import nbytes

logger = logging.getLogger(__name__)

_FIELDS = ("_parameters", "_buffers")


class Table(dict[str, Any]):
    """The parameters, or the buffers, of a module whose unit is away; to read one brings the unit in."""

    def __init__(self, inner: dict[str, Any], unit: Unit) -> None:
        super().__init__(inner)
        self.inner, self.unit = inner, unit
        self.device = next((one.device for one in inner.values() if one is not None), torch.device("cpu"))

    def __getitem__(self, name: str) -> Any:
        self.unit.bring()
        return self.inner[name]

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # a copied module is an ordinary one


class Unit:
    """Tensors that come and go together."""

    def __init__(self, modules: Iterable[nn.Module], room: Room, company: str, *, stays: bool) -> None:
        self.room, self.company, self.stays = room, company, stays
        self.is_here = False
        self.came: dict[tuple[int, str], tuple[Tensor, int, int]] = {}
        self.tables: list[tuple[nn.Module, str, dict[str, Any], Table]] = []
        for module in modules:
            if not any(tensor is not None for field in _FIELDS for tensor in module.__dict__[field].values()):
                continue
            module.__dict__[room.mark] = room
            for field in _FIELDS:
                inner = module.__dict__[field]
                module.__dict__[field] = table = Table(inner, self)
                self.tables.append((module, field, inner, table))

    @property
    def homes(self) -> list[Tensor]:
        """Its tensors at home, tied ones once."""
        homes = (tensor for *_, table in self.tables for tensor in table.values() if tensor is not None)
        return list({id(tensor): tensor for tensor in homes}.values())

    @property
    def nbytes(self) -> int:
        return nbytes(self.homes)

    def bring(self) -> None:
        """See that its tensors are on the device."""
        if not self.is_here:
            self.room.bring(self)

    def come(self, copies: Mapping[int, Tensor]) -> None:
        """Have the modules compute with these copies, by the `id` of the tensors at home."""
        for index, (module, field, inner, table) in enumerate(self.tables):
            for name, home in table.items():
                if home is not None:
                    copy = copies[id(home)]
                    dict.__setitem__(inner, name, copy)
                    self.came[index, name] = (copy, copy._version, copy.data_ptr())
            module.__dict__[field] = inner
        self.is_here = True

    def leave(self) -> list[Tensor]:
        """Have the modules hold their tensors at home again; gives the copies, for whoever must keep them a while."""
        if not self.is_here:
            return []
        for index, (module, field, inner, table) in enumerate(self.tables):
            if isinstance(inner, Table):
                inner.unit.leave()
            _take_home(table, inner, {name: self.came.get((index, name)) for name in inner})
            dict.update(inner, table)
            module.__dict__[field] = table
        copies = [copy for copy, *_ in self.came.values()]
        self.came.clear()
        self.is_here = False
        return copies

    def is_of(self, modules: Collection[nn.Module]) -> bool:
        """Whether it has tensors of any of these."""
        return any(module in modules for module, *_ in self.tables)

    def dissolve(self) -> None:
        """Leave the modules as they were before there was such a unit."""
        self.leave()
        for module, field, inner, table in self.tables:
            dict.clear(inner)
            dict.update(inner, table)
            module.__dict__[field] = inner
            module.__dict__.pop(self.room.mark, None)


def _take_home(table: Table, inner: dict[str, Any], came: Mapping[str, tuple[Tensor, int, int] | None]) -> None:
    """Keep what was changed, replaced, added or removed while a unit was on the device."""
    for name in [name for name in table if name not in inner]:
        del table[name]
    for name, now in inner.items():
        before, home = came[name], table.get(name)
        if now is None:
            table[name] = None
        elif before is None or now is not before[0]:
            table[name] = like(now, now.detach().to(table.device))
        elif home is not None and (now._version, now.data_ptr()) != before[1:]:
            with torch.no_grad():
                home.copy_(now)


class Room:
    """What is on the device at a time, for one placement.

    Args:
        mark: the attribute under which modules know it.
        courier: makes the copies.
        together: names of networks that work in turns and therefore stay side by side.
    """

    def __init__(self, mark: str, courier: Courier, together: Collection[str] = ()) -> None:
        self.mark, self.courier, self.together = mark, courier, frozenset(together)
        self.units: list[Unit] = []
        self.present: list[Unit] = []
        self.compiled: list[tuple[nn.Module, str, Any]] = []
        # Graphs are made of what is computed, not of what is moved.
        self.bring: Callable[[Unit], None] = torch.compiler.disable(self._bring)

    def __reduce__(self) -> Any:
        return type(None), ()  # a copied module is an ordinary one

    def _bring(self, unit: Unit) -> None:
        self.send_home(other for other in self.present if not self._stays_beside(other, unit))
        with torch.inference_mode(False), torch.no_grad():
            unit.come(self.courier.fetch(unit))
        self.present.append(unit)
        self.courier.look_ahead(unit)

    def _stays_beside(self, other: Unit, unit: Unit) -> bool:
        works_on = other.company == unit.company or {other.company, unit.company} <= self.together
        return other.stays and works_on

    def send_home(self, units: Iterable[Unit]) -> None:
        """Have these units leave the device."""
        for unit in list(units):
            if unit in self.present:
                self.present.remove(unit)
                self.courier.retire(unit.leave())

    def admit(self, name: str, network: nn.Module, parts: Iterable[Part]) -> None:
        """Make units of the parts of a network."""
        for modules, stays in parts:
            unit = Unit(modules, self, name, stays=stays)
            if unit.tables:
                self.units.append(unit)
        network.__dict__[self.mark] = self
        self._enter_compiled(name, network)

    def dismiss(self, network: nn.Module) -> None:
        """Make a network an ordinary one again."""
        inside = set(network.modules())
        theirs = [unit for unit in self.units if unit.is_of(inside)]
        self.send_home(theirs)
        for unit in theirs:
            unit.dissolve()
        self.units = [unit for unit in self.units if unit not in theirs]
        for module, attribute, original in self.compiled:
            if module in inside:
                module.__dict__[attribute] = original
        self.compiled = [row for row in self.compiled if row[0] not in inside]
        network.__dict__.pop(self.mark, None)
        if not self.present:
            self.courier.rest()

    def _enter_compiled(self, name: str, network: nn.Module) -> None:
        """A compiled module finds its weights in place: one unit comes before it, and for more it runs as written."""
        for module in network.modules():
            as_written = module._modules.get("_orig_mod")
            attribute = "_compiled_call_impl" if as_written is None else "forward"
            compiled = module.__dict__.get(attribute)
            inside = set(module.modules())
            needed = [unit for unit in self.units if unit.is_of(inside)]
            if compiled is None or not needed:
                continue
            if len(needed) == 1:
                module.__dict__[attribute] = _after(needed[0].bring, compiled)
            else:
                logger.warning("%s comes to the device in parts, so it runs as it is written, not compiled.", name)
                module.__dict__[attribute] = None if as_written is None else as_written.__call__
            self.compiled.append((module, attribute, compiled))


def _after(first: Callable[[], None], then: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        first()
        return then(*args, **kwargs)

    return call


Part = tuple[list[nn.Module], bool]
"""Modules whose own tensors come together, and whether these stay as long as their network works."""


@dataclass(frozen=True)
class Grain:
    """What comes to the device at a time: whole components, groups of so many blocks, or leaves (layers)."""

    name: str = "components"
    """One of "components", "blocks" and "leaves"."""
    num_blocks: int = 1

    def divide(self, network: nn.Module) -> Iterator[Part]:
        """What each unit of a network is made of."""
        if self.name == "components":
            yield list(network.modules()), True
        elif self.name == "leaves":
            for module in network.modules():
                yield [module], False
        else:
            groups = list(_groups(network, self.num_blocks))
            grouped = {module for group in groups for module in group}
            yield [module for module in network.modules() if module not in grouped], True
            yield from ((group, False) for group in groups)


def _groups(network: nn.Module, size: int) -> Iterator[list[nn.Module]]:
    """The modules of each group of consecutive blocks: members of the outermost lists."""
    for child in network.children():
        if isinstance(child, (nn.ModuleList, nn.Sequential)):
            blocks = list(child.children())
            for start in range(0, len(blocks), size):
                yield list(dict.fromkeys(m for block in blocks[start : start + size] for m in block.modules()))
        else:
            yield from _groups(child, size)


PLACED = "_placement"
"""The mark of what comes to a device and goes home."""
CAST = "_casting"
"""The mark of what is stored in one type and computes in another."""


def place(
    networks: Mapping[str, nn.Module],
    device: torch.device,
    grain: Grain,
    *,
    streamed: bool = False,
    together: Collection[str] = (),
    but: Mapping[str, Grain] | None = None,
) -> None:
    """Keep the weights of networks at home, where they are now, and have them come to a device when they are used.

    Args:
        but: names of networks that come in a grain of their own.
        streamed: copy the unit that came next last time on a side stream, while the present one computes.
        together: names of networks that work in turns and therefore stay side by side.
    """
    for network in networks.values():
        remove(network)
    room = Room(PLACED, StreamCourier(device) if streamed else DirectCourier(device), together)
    for name, network in networks.items():
        room.admit(name, network, (but or {}).get(name, grain).divide(network))


@contextmanager
def placed_like(copied: nn.Module, original: nn.Module) -> Iterator[None]:
    """As long as it lasts, a copy comes to the device as a whole where the original comes and goes."""
    places = rooms(original, PLACED)
    for room in places:
        room.admit(f"copy of {type(original).__name__}", copied, Grain().divide(copied))
    try:
        yield
    finally:
        for room in places:
            room.dismiss(copied)


def rooms(network: nn.Module, *marks: str) -> list[Room]:
    """The placements that the parts of a network belong to."""
    found = (module.__dict__.get(mark) for module in network.modules() for mark in marks)
    return list(dict.fromkeys(room for room in found if room is not None))


def remove(network: nn.Module) -> None:
    """Have a network's weights stay at home again."""
    for room in rooms(network, PLACED):
        room.dismiss(network)


def release(network: nn.Module) -> None:
    """Send a network's weights home until they are used again."""
    inside = set(network.modules())
    for room in rooms(network, PLACED, CAST):
        room.send_home(unit for unit in room.units if unit.is_of(inside))
        if not room.present:
            room.courier.rest()


def execution_device(network: nn.Module) -> torch.device:
    """Where a network computes: its inputs belong there."""
    for room in rooms(network, PLACED):
        return room.courier.device
    tensors = (tensor for listed in (network.parameters(), network.buffers()) for tensor in listed)
    return next((tensor.device for tensor in tensors), torch.device("cpu"))
