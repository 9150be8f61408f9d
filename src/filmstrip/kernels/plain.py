"""Whether an operation may be computed in another way than torch's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeGuard, TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def is_free() -> bool:
    """Whether it may: nobody records or traces the operations, or wants them plain."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling() and not _plain.get()


def wants_plain() -> bool:
    """Whether somebody wants all operations plain."""
    return not torch.compiler.is_compiling() and _plain.get()


def kind_of(layer: nn.Module) -> type[nn.Module]:
    """The class of torch's that a layer computes as, if it is one of ours; its own otherwise."""
    kind: type[nn.Module] = type(layer).__dict__.get("computes_as", type(layer))
    return kind


def is_plain(layer: nn.Module, *kinds: type[Module]) -> TypeGuard[Module]:
    """Whether a layer computes what its kind does and no more: nobody has wrapped, replaced or hooked it."""
    return kind_of(layer) in kinds and not layer._forward_hooks and not layer._forward_pre_hooks


@contextmanager
def plain_kernels() -> Iterator[None]:
    """As long as this lasts, all is computed by torch's own operators, whole: to tell whose a difference is."""
    before = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(before)


_plain = ContextVar("_plain", default=False)
