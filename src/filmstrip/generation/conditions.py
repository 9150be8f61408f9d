"""What a network is conditioned on, as rows: one for each video of the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """A family's conditions: a frozen dataclass whose tensors, and lists of tensors, have one row for each video.

    Tuples have one entry for each row; all other fields are the same for every row.
    """

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Those that there are, by name."""
        return {name: value for name, value in _values(self).items() if isinstance(value, Tensor)}

    def repeated(self: R, times: int) -> R:
        """Each row that many times in a row."""
        if times == 1:
            return self
        return _changed(
            self,
            lambda rows: rows.repeat_interleave(times, 0),
            lambda entries: tuple(one for one in entries for _ in range(times)),
        )

    def followed_by(self: R, others: R) -> R:
        """A batch of these rows and then of others, whose devices decide."""
        theirs = _values(others)
        joined: dict[str, Any] = {}
        for name, mine in _values(self).items():
            if isinstance(mine, Tensor):
                joined[name] = _joined(mine, theirs[name])
            elif isinstance(mine, list):
                joined[name] = [_joined(one, other) for one, other in zip(mine, theirs[name], strict=True)]
            elif isinstance(mine, tuple):
                joined[name] = (*mine, *theirs[name])
        return dataclasses.replace(self, **joined)


R = TypeVar("R", bound=Rows)


def _values(rows: Rows) -> dict[str, Any]:
    return {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)}


def _changed(rows: R, change: Callable[[Tensor], Tensor], each: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> R:
    changed: dict[str, Any] = {}
    for name, value in _values(rows).items():
        if isinstance(value, Tensor):
            changed[name] = change(value)
        elif isinstance(value, list):
            changed[name] = [change(one) for one in value]
        elif isinstance(value, tuple):
            changed[name] = each(value)
    return dataclasses.replace(rows, **changed)


def _joined(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([first.to(second.device), second])
