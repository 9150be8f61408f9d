"""Layerwise casting: weights stored in a narrow type, each layer's widened while it computes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from filmstrip.memory.couriers import CastingCourier
from filmstrip.memory.residency import CAST, PLACED, Room, execution_device, rooms
from filmstrip.memory.sizes import is_quantized

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""The layers that hold nearly all weights."""


@dataclass(frozen=True)
class Casting:
    """What became narrower."""

    layers: tuple[str, ...]
    """Names of the layers that are stored in the narrow type."""
    kept: tuple[str, ...]
    """Names of those that keep theirs, since they are sensitive or were named."""
    bytes_saved: int


def cast_layers(
    network: nn.Module,
    storage_dtype: torch.dtype,
    compute_dtype: torch.dtype,
    kept: Sequence[str] = (),
    kept_classes: Sequence[type[nn.Module]] = (),
) -> Casting:
    """Store the layers of a network in one type; each computes in another, in which only it is held meanwhile.

    Args:
        kept: regular expressions of the names of layers that stay as they are.
        kept_classes: classes of modules that stay as they are, with all that they hold.

    Raises:
        ValueError: nothing would become smaller, or the network is not as it was loaded.
    """
    name = type(network).__name__
    if rooms(network, CAST):
        raise ValueError(f"{name} is stored in a narrow type already; load it again to choose another.")
    if rooms(network, PLACED):
        raise ValueError(f"{name} is offloaded already; call enable_layerwise_casting first, or remove_all_hooks.")
    if any(map(is_quantized, network.parameters())):
        raise ValueError(f"{name} is quantised already; load it again to store it in a narrow type instead.")
    spared = {
        inner for module in network.modules() if isinstance(module, tuple(kept_classes)) for inner in module.modules()
    }
    layers = {at: module for at, module in network.named_modules() if isinstance(module, LAYERS)}
    free = {at: layer for at, layer in layers.items() if layer not in spared and not is_named(at, kept)}
    chosen = {at: layer for at, layer in free.items() if _narrows(layer, storage_dtype)}
    if not chosen:
        raise ValueError(
            f"no layer of {name} would become smaller as {storage_dtype}: of {len(layers)} layers"
            f" {len(layers) - len(free)} are kept by class or name; choose a narrower type or keep less."
        )
    before = sum(tensor.nbytes for layer in chosen.values() for tensor in layer.parameters(recurse=False))
    _store(chosen.values(), storage_dtype)
    after = sum(tensor.nbytes for layer in chosen.values() for tensor in layer.parameters(recurse=False))
    room = Room(CAST, CastingCourier(execution_device(network), compute_dtype))
    room.admit(name, network, (([layer], False) for layer in chosen.values()))
    return Casting(tuple(chosen), tuple(at for at in layers if at not in chosen), before - after)


def is_named(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of these regular expressions is found in a name."""
    return any(re.search(pattern, name) for pattern in patterns)


def _narrows(layer: nn.Module, dtype: torch.dtype) -> bool:
    return any(one.is_floating_point() and one.itemsize > dtype.itemsize for one in layer.parameters(recurse=False))


def _store(layers: Iterable[nn.Module], dtype: torch.dtype) -> None:
    stored: dict[int, nn.Parameter] = {}  # tied weights stay tied
    for layer in layers:
        for name, tensor in layer.named_parameters(recurse=False):
            if id(tensor) not in stored:
                with torch.no_grad():
                    stored[id(tensor)] = nn.Parameter(tensor.to(dtype), requires_grad=False)
            layer.register_parameter(name, stored[id(tensor)])
