"""What networks are put together with: lists that keep their type, the layout of weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, cast

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def module_list(modules: Iterable[Module]) -> list[Module]:
    """An `nn.ModuleList`, told to the type checker as the list of one kind of module that it is."""
    return cast("list[Module]", nn.ModuleList(modules))


def weights_channels_last(network: nn.Module) -> None:
    """Order the weights of convolutions of pictures as they are read: each position's channels side by side."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
