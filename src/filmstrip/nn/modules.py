"""Lists of submodules that keep their type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, cast

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def module_list(modules: Iterable[Module]) -> list[Module]:
    """An `nn.ModuleList`, told to the type checker as the list of one kind of module that it is."""
    return cast("list[Module]", nn.ModuleList(modules))
