"""Where weights are: at home until they are used, then as copies on the device that computes, then at home again.

A *unit* is what comes and goes together: the tensors of a network, of some of its blocks, or of one layer. While it is
away from the device, reading any of its tensors as an attribute (`layer.weight`) brings the whole of it in, whoever
reads; listing them (`network.parameters()`, `state_dict()`) shows the tensors at home and moves nothing. So no network
knows of this, and what is computed is the same as without. Homes are never copied nor pinned as a whole: weights that
are mapped from their files stay so. Threads may share all of it: a tensor that was read stays what it is, and calls
take turns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from filmstrip.memory.couriers import Courier, DirectCourier, StreamCourier, like
from filmstrip.memory.sizes import nbytes
from filmstrip.memory.turns import Turn, call_freely, take_turns

logger = logging.getLogger(__name__)

_FIELDS = ("_parameters", "_buffers")


class Table(dict[str, Any]):
    """The parameters, or the buffers, of a module whose unit is away; to read one brings the unit in."""

    def __init__(self, module: nn.Module, field: str, unit: Unit) -> None:
        inner = module.__dict__[field]
        super().__init__(inner)
        self.module, self.field, self.unit = module, field, unit
        self.inner: Table | None = inner if isinstance(inner, Table) else None
        """What was in its place before, if that, too, is one."""
        self.device = next((one.device for one in inner.values() if one is not None), torch.device("cpu"))

    def __getitem__(self, name: str) -> Any:
        with self.unit.room.turn:
            if self.held is self:
                self.unit.bring()
            return self.held[name]  # of a table in this one's place, if somebody else has put it there meanwhile

    @property
    def held(self) -> dict[str, Any]:
        """What the module has in this place now."""
        held: dict[str, Any] = self.module.__dict__[self.field]
        return held

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # a copied module is an ordinary one


class Unit:
    """Tensors that come and go together."""

    def __init__(self, modules: Iterable[nn.Module], room: Room, company: str, *, stays: bool) -> None:
        self.room, self.company, self.stays = room, company, stays
        self.is_here = False
        self.came: dict[tuple[int, str], tuple[Tensor, int, int]] = {}
        self.tables: list[Table] = []
        for module in modules:
            if not any(tensor is not None for field in _FIELDS for tensor in module.__dict__[field].values()):
                continue
            module.__dict__[room.mark] = room
            for field in _FIELDS:
                module.__dict__[field] = table = Table(module, field, self)
                self.tables.append(table)

    @property
    def homes(self) -> list[Tensor]:
        """Its tensors at home, tied ones once."""
        homes = (tensor for table in self.tables for tensor in table.values() if tensor is not None)
        return list({id(tensor): tensor for tensor in homes}.values())

    @property
    def nbytes(self) -> int:
        return nbytes(self.homes)

    def bring(self) -> None:
        """See that its tensors are on the device."""
        with self.room.turn:
            if not self.is_here:
                self.room.bring(self)

    def come(self, copies: Mapping[int, Tensor]) -> None:
        """Have the modules compute with these copies, by the `id` of the tensors at home."""
        for index, table in enumerate(self.tables):
            # A dictionary for each time: whoever has read the one of the last time may still take copies from it.
            present: dict[str, Any] = {} if table.inner is None else table.inner
            for name, home in table.items():
                copy = None if home is None else copies[id(home)]
                dict.__setitem__(present, name, copy)
                if copy is not None:
                    self.came[index, name] = (copy, copy._version, copy.data_ptr())
            table.module.__dict__[table.field] = present
        self.is_here = True

    def leave(self) -> list[Tensor]:
        """Have the modules hold their tensors at home again; gives the copies, for whoever must keep them a while."""
        if not self.is_here:
            return []
        for index, table in enumerate(self.tables):
            if table.inner is not None:
                table.inner.unit.leave()
            present = table.held
            _take_home(table, present, {name: self.came.get((index, name)) for name in present})
            if table.inner is not None:
                dict.update(present, table)
            table.module.__dict__[table.field] = table
        copies = [copy for copy, *_ in self.came.values()]
        self.came.clear()
        self.is_here = False
        return copies

    def is_of(self, modules: Collection[nn.Module]) -> bool:
        """Whether it has tensors of any of these."""
        return any(table.module in modules for table in self.tables)

    def dissolve(self) -> None:
        """Leave the modules as they were before there was such a unit."""
        self.leave()
        for table in self.tables:
            before: dict[str, Any] = {} if table.inner is None else table.inner
            dict.clear(before)
            dict.update(before, table)
            table.module.__dict__[table.field] = before
            table.module.__dict__.pop(self.room.mark, None)


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
        self.turn = Turn()
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
        with self.turn:
            for unit in list(units):
                if unit in self.present:
                    self.present.remove(unit)
                    self.courier.retire(unit.leave())

    def admit(self, name: str, network: nn.Module, parts: Iterable[Part]) -> None:
        """Make units of the parts of a network."""
        for inner in rooms(network, CAST):  # its weights come to be read while these are, so that they share turns
            inner.turn = self.turn
        take_turns(network, self.turn)
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
        left = rooms(network, PLACED, CAST)
        if left:
            take_turns(network, left[0].turn)
        else:
            call_freely(network)
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
                module.__dict__[attribute] = _after(needed[0], compiled)
            else:
                logger.warning("%s comes to the device in parts, so it runs as it is written, not compiled.", name)
                module.__dict__[attribute] = None if as_written is None else as_written.__call__
            self.compiled.append((module, attribute, compiled))


def _after(unit: Unit, then: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with unit.room.turn:
            unit.bring()
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


def turn_of(network: nn.Module) -> AbstractContextManager[None]:
    """As long as it lasts, no other thread moves the weights of a network."""
    found = rooms(network, PLACED, CAST)
    return found[0].turn if found else nullcontext()


def remove(network: nn.Module) -> None:
    """Have a network's weights stay at home again."""
    for room in rooms(network, PLACED):
        room.dismiss(network)


def release(network: nn.Module) -> None:
    """Send a network's weights home until they are used again."""
    inside = set(network.modules())
    for room in rooms(network, PLACED, CAST):
        with room.turn:
            room.send_home(unit for unit in room.units if unit.is_of(inside))
            if not room.present:
                room.courier.rest()


def compute_dtype_of(network: nn.Module) -> torch.dtype | None:
    """The type in which a network computes whose layers are stored in another one; None if they are not."""
    room: Room | None = getattr(network, "_orig_mod", network).__dict__.get(CAST)
    return None if room is None else getattr(room.courier, "dtype", None)


def execution_device(network: nn.Module) -> torch.device:
    """Where a network computes: its inputs belong there."""
    found = None
    for module in network.modules():
        if (room := module.__dict__.get(PLACED)) is not None:
            device: torch.device = room.courier.device
            return device
        for tensor in module.__dict__["_parameters"].values():
            if tensor is not None:
                return tensor.device
        found = found or next((one.device for one in module.__dict__["_buffers"].values() if one is not None), None)
    return found or torch.device("cpu")
