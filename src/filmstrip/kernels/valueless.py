"""Tensors without values, on the meta device: a network that is run on them shows how much memory it would take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

Portion = TypeVar("Portion")


def is_on_cpu(tensor: Tensor) -> bool:
    """Whether a CPU computes with this tensor, or would do so if it had values."""
    return tensor.device.type == "cpu" or (tensor.is_meta and _stand_for_cpu.get())


def in_turn(portions: Iterable[Portion], tensor: Tensor) -> Iterable[Portion]:
    """Portions of a work on a tensor that follow each other in the same memory, whose results are written into another.

    Of a tensor without values only the first and the last are taken: they show the memory of all.
    """
    if not tensor.is_meta:
        return portions
    whole = list(portions)
    return whole if len(whole) < 3 else [whole[0], whole[-1]]


def joined(work: Callable[[Tensor], Tensor], portions: Sequence[Tensor]) -> Tensor:
    """What becomes of portions of rows, one after the other, as one tensor."""
    made = [work(portion) for portion in in_turn(portions, portions[0])]
    if len(made) == len(portions):
        return torch.cat(made)
    rows = sum(map(len, portions))
    parts = made[0].new_empty(rows - sum(map(len, made)), *made[0].shape[1:])  # those that were left out
    return torch.cat([*made, parts])


class Account(Protocol):
    """Whoever adds up the memory of a work without values."""

    def repeat(self, work: Callable[[Tensor], Tensor], tensor: Tensor, known: dict[Any, Any]) -> Tensor:
        """What `work` makes of a tile; the first is worked on, and none is larger."""


def one_of_each(work: Callable[[Tensor], Tensor], tensor: Tensor, known: dict[Any, Any]) -> Tensor:
    """What `work` makes of one of many tiles; where there are no values, all are like the first, or smaller."""
    account = _account.get() if tensor.is_meta else None
    return work(tensor) if account is None else account.repeat(work, tensor, known)


_stand_for_cpu = ContextVar("_stand_for_cpu", default=False)
_account: ContextVar[Account | None] = ContextVar("_account", default=None)


@contextmanager
def standing_for(device_type: str, account: Account | None = None) -> Iterator[None]:
    """As long as this lasts, tensors without values are taken for those of a CPU, if that is the device's type."""
    before = _stand_for_cpu.set(device_type == "cpu"), _account.set(account)
    try:
        yield
    finally:
        _stand_for_cpu.reset(before[0])
        _account.reset(before[1])
