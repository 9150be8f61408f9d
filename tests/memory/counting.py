"""Counting what weights are on a device: now, at most, and in all that was copied."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from torch import Tensor, nn

from filmstrip.memory import couriers
from filmstrip.memory.residency import PLACED, rooms


class Counts:
    """Bytes of the copies that couriers made and that are still alive."""

    def __init__(self) -> None:
        self.now = self.most = self.copied = 0
        self.units: list[str] = []
        """The components whose units came, in turn."""

    def arrived(self, load: Any, copies: Mapping[int, Tensor]) -> None:
        for copy in copies.values():
            self.now, self.copied = self.now + copy.nbytes, self.copied + copy.nbytes
            weakref.finalize(copy, self._left, copy.nbytes)
        self.most = max(self.most, self.now)
        self.units.append(load.company)

    def _left(self, size: int) -> None:
        self.now -= size


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    """Everything that comes to any device while a test runs."""
    counted, fetch, send = Counts(), couriers.DirectCourier.fetch, couriers.StreamCourier._send

    def fetching(courier: Any, load: Any) -> Any:
        copies = fetch(courier, load)
        counted.arrived(load, copies)
        return copies

    def sending(courier: Any, load: Any, *rest: Any) -> Any:
        copies, arrived = send(courier, load, *rest)
        counted.arrived(load, copies)
        return copies, arrived

    monkeypatch.setattr(couriers.DirectCourier, "fetch", fetching)
    monkeypatch.setattr(couriers.StreamCourier, "_send", sending)
    yield counted


def present(networks: Mapping[str, nn.Module]) -> list[str]:
    """The networks that have something on the device."""
    places = dict.fromkeys(room for network in networks.values() for room in rooms(network, PLACED))
    return [unit.company for room in places for unit in room.present]
