"""What operations give, remembered: without values, the same kinds of tensors give the same kinds of tensors.

Many operations work out their shapes in Python, which takes a millisecond; a video takes a hundred thousand of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = (Tensor, nn.Parameter)
_IN_PLACE: Any = object()


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors among the arguments or results of an operation, which nest them in lists at most."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)


class Results:
    """What operations gave whose tensors all had no values."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def of(self, func: Any, work: Callable[[], Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `work` gives, which is the operation on these arguments, or what it gave for others like them."""
        try:
            key = func, _kinds(args), _kinds(kwargs.items())
        except _HasValuesError:
            return work()
        if (known := self._known.get(key)) is not None:
            if known is _IN_PLACE:
                return args[0]
            made = [make() for make in known[1]]
            return known[0](made) if known[0] is not None else made[0]
        result = work()
        if func._schema.is_mutable:
            if result is args[0] and _kinds(args) == key[1]:
                self._known[key] = _IN_PLACE
            return result
        remade = [result] if isinstance(result, Tensor) else result
        given = {one.untyped_storage()._cdata for one in (*tensors_in(args), *tensors_in(kwargs.values()))}
        if _are_new(remade, given):
            form = None if isinstance(result, Tensor) else type(result)
            self._known[key] = form, [maker(one) for one in remade]
        return result


class _HasValuesError(Exception):
    """An argument is more than a kind of tensor."""


def kind(tensor: Tensor) -> Any:
    """What of a tensor decides what becomes of it where it has no values."""
    return tensor.shape, tensor.stride(), tensor.dtype


def maker(tensor: Tensor) -> Callable[[], Tensor]:
    """What makes tensors like this one, with as much room around them."""
    size, stride, offset = tensor.size(), tensor.stride(), tensor.storage_offset()
    room, dtype = tensor.untyped_storage().nbytes() // tensor.itemsize, tensor.dtype
    plain = torch.empty_strided(size, stride, dtype=dtype, device="meta")
    if offset == 0 and plain.untyped_storage().nbytes() == tensor.untyped_storage().nbytes():
        return lambda: torch.empty_strided(size, stride, dtype=dtype, device="meta")
    return lambda: torch.empty(room, dtype=dtype, device="meta").as_strided(size, stride, offset)


def _kinds(values: Any) -> tuple[Any, ...]:
    found: list[Any] = []
    for value in values:
        if isinstance(value, Tensor):
            if type(value) not in _PLAIN or not value.is_meta:
                raise _HasValuesError
            found.append(kind(value))
        elif isinstance(value, (list, tuple)):
            found.append(_kinds(value))
        elif type(value) is float:
            found.append(float)  # no shape depends on it
        elif value is None or isinstance(value, (bool, int, str, torch.dtype, torch.device, torch.layout)):
            found.append((type(value), value))
        elif isinstance(value, torch.memory_format):
            found.append((torch.memory_format, str(value)))
        else:
            raise _HasValuesError
    return tuple(found)


def _are_new(made: Any, given: set[int]) -> bool:
    """Whether these are tensors without values that share their memory with no other."""
    if not isinstance(made, (list, tuple)) or not made:
        return False
    storages = set(given)
    for one in made:
        if type(one) is not Tensor or not one.is_meta or one.untyped_storage()._cdata in storages:
            return False
        storages.add(one.untyped_storage()._cdata)
    return True
