"""Lists of submodules that keep their type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, cast

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def module_list(modules: Iterable[Module]) -> list[Module]:
    """An `nn.ModuleList`, told to the type checker as the list of one kind of module that it is."""
    return cast("list[Module]", nn.ModuleList(modules))


def is_plain(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a layer computes what its kind does and no more: nobody has wrapped, replaced or hooked it."""
    return type(layer) in kinds and not layer._forward_hooks and not layer._forward_pre_hooks
