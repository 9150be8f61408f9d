"""Tensors without values, on the meta device: a network that is run on them shows how much memory it would take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor

Portion = TypeVar("Portion")
_stand_for_cpu = False


def is_on_cpu(tensor: Tensor) -> bool:
    """Whether a CPU computes with this tensor, or would do so if it had values."""
    return tensor.device.type == "cpu" or (_stand_for_cpu and tensor.is_meta)


def in_turn(portions: Iterable[Portion], tensor: Tensor) -> Iterable[Portion]:
    """Portions of a work on a tensor that follow each other in the same memory, whose results are written into another.

    Of a tensor without values only the first and the last are taken: they show the memory of all.
    """
    if not tensor.is_meta:
        return portions
    whole = list(portions)
    return whole if len(whole) < 3 else [whole[0], whole[-1]]


@contextmanager
def standing_for(device_type: str) -> Iterator[None]:
    """As long as this lasts, tensors without values are taken for those of a CPU, if that is the device's type."""
    global _stand_for_cpu
    before, _stand_for_cpu = _stand_for_cpu, device_type == "cpu"
    try:
        yield
    finally:
        _stand_for_cpu = before
