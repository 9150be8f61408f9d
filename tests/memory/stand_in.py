"""A device to offload to where there is none: the CPU, whose copies are counted and whose homes can't be read.

While it watches, no operation but the couriers' copying may touch a tensor at home, as none could on an accelerator.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from filmstrip.memory import couriers
from filmstrip.memory.residency import Grain, place, rooms

DEVICE = torch.device("cpu")


class HomeRead(AssertionError):
    """Something computed with weights that were not on the device."""


class _Watch(TorchDispatchMode):
    def __init__(self, homes: Mapping[int, str]) -> None:
        super().__init__()
        self.homes = homes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket not in (torch.ops.aten.detach, torch.ops.aten.alias):
            for leaf in tree_leaves((args, kwargs)):
                if isinstance(leaf, Tensor) and leaf.numel() and leaf.untyped_storage().data_ptr() in self.homes:
                    raise HomeRead(f"{func} read {self.homes[leaf.untyped_storage().data_ptr()]} at home")
        return func(*args, **(kwargs or {}))


class StandIn:
    """What is on the device: now, at most, and in all that was copied."""

    def __init__(self) -> None:
        self.now = self.most = self.copied = 0
        self.order: list[str] = []

    def arrived(self, copies: Mapping[int, Tensor]) -> None:
        for copy in copies.values():
            size = copy.nbytes
            self.now, self.copied = self.now + size, self.copied + size
            weakref.finalize(copy, self._left, size)
        self.most = max(self.most, self.now)

    def _left(self, size: int) -> None:
        self.now -= size


@contextmanager
def offloaded(
    networks: Mapping[str, nn.Module], grain: Grain, *, streamed: bool = False, together: Any = ()
) -> Iterator[StandIn]:
    """Networks whose weights come to the stand-in."""
    place(networks, DEVICE, grain, streamed=streamed, together=together)
    with watched(networks) as counts:
        yield counts


@contextmanager
def watched(networks: Mapping[str, nn.Module]) -> Iterator[StandIn]:
    """Count what comes, and let nothing be read at home."""
    counts = StandIn()
    homes = {
        tensor.untyped_storage().data_ptr(): f"{name}.{at}"
        for name, network in networks.items()
        for at, tensor in (*network.named_parameters(), *network.named_buffers())
        if tensor.numel()
    }
    originals = {kind: kind.fetch for kind in (couriers.DirectCourier, couriers.StreamCourier)}

    def counting(kind: Any) -> Any:
        def fetch(courier: Any, load: Any) -> Any:
            with torch.utils._python_dispatch._disable_current_modes():
                copies = originals[kind](courier, load)
            if kind is couriers.DirectCourier or not load.stays:  # else it was counted as the other kind's
                counts.arrived(copies)
                counts.order.append(load.company)
            return copies

        return fetch

    for kind in originals:
        kind.fetch = counting(kind)  # type: ignore[method-assign]
    try:
        with _Watch(homes):
            yield counts
    finally:
        for kind, original in originals.items():
            kind.fetch = original  # type: ignore[method-assign]


def present(networks: Mapping[str, nn.Module]) -> list[str]:
    """The networks that have something on the device."""
    return [
        unit.company for network in networks.values() for room in rooms(network, "_placement") for unit in room.present
    ]
