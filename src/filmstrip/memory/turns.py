"""Turns: threads that share a network whose weights come and go call it one after the other.

Each read of a weight is right by itself whatever other threads do; turns keep one call's weights from being sent away
by another call until it is through with them, which would be slow, and on streams of a device unsafe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from threading import RLock
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import nn

Item = TypeVar("Item")
_TURN = "_turn"
_CALL = "_call_impl"  # what torch's `__call__` looks up on the module


class Turn(AbstractContextManager[None]):
    """Whose turn it is; a thread may take its turn again within it."""

    def __init__(self) -> None:
        self._lock = RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> Any:
        return Turn, ()


def take_turns(network: nn.Module, turn: Turn) -> None:
    """Have the calls of a network take turns with all that share this one.

    A network whose other methods compute, too, names them in `computing_methods`.
    """
    network.__dict__[_TURN] = turn
    for name in _names(network):
        network.__dict__[name] = MethodType(_in_turn(name), network)  # of a copied network, it is the copy's


def call_freely(network: nn.Module) -> None:
    """Have the calls of a network take turns no more."""
    network.__dict__.pop(_TURN, None)
    for name in _names(network):
        network.__dict__.pop(name, None)


def _names(network: nn.Module) -> tuple[str, ...]:
    return (_CALL, *getattr(network, "computing_methods", ()))


@cache
def _in_turn(name: str) -> Callable[..., Any]:
    def method(network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        plain = getattr(type(network), name)
        if torch.compiler.is_compiling():
            return plain(network, *args, **kwargs)
        turn: Turn = network.__dict__[_TURN]
        with turn:
            made = plain(network, *args, **kwargs)
        return _items(turn, made) if isinstance(made, Iterator) else made

    method.__name__ = name
    return method


def _items(turn: Turn, items: Iterator[Item]) -> Iterator[Item]:
    """Yield what an iterator yields; it is this thread's turn only while an item is made."""
    end = object()
    while True:
        with turn:
            item = next(items, end)
        if item is end:
            return
        yield item  # type: ignore[misc]
