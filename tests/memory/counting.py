"""Counting what weights are on a device: now, at most, and in all that was copied."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.memory import couriers
from filmstrip.memory.residency import PLACED, rooms
from tests.memory.other_device import There


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


class Device:
    """Bytes of all tensors on the device of `other_device`: weights, and what is worked on."""

    def __init__(self) -> None:
        self.now = 0
        self.stage = ""
        self.most: dict[str, int] = {}
        self._alive: dict[int, Any] = {}

    def enter(self, stage: str) -> None:
        """Begin a stage."""
        self.stage = stage
        self.most[stage] = max(self.now, self.most.get(stage, 0))

    def hold(self, tensor: Tensor) -> None:
        """A tensor is there, or another view of one."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive[key] = weakref.ref(storage, lambda _: self._leave(key, size))
        self.now += size
        self.enter(self.stage)

    def _leave(self, key: int, size: int) -> None:
        del self._alive[key]
        self.now -= size


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """All that is on the other device while a test runs; there attention has a kernel without a table of scores."""
    device, make, function = Device(), There.__new__, There.__torch_function__

    def made(cls: Any, held: Tensor) -> There:
        device.hold(held)
        return make(cls, held)

    def called(func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return There(func(*(one.held for one in args), **{k: getattr(v, "held", v) for k, v in kwargs.items()}))
        return function(func, types, args, kwargs)

    monkeypatch.setattr(There, "__new__", staticmethod(made))
    monkeypatch.setattr(There, "__torch_function__", staticmethod(called))
    return device
