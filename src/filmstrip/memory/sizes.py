"""How large tensors are, those included that are more than numbers: quantised weights hold several plain tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor, nn


def is_quantized(tensor: Tensor) -> bool:
    """Whether a weight is stored as codes and scales, and is computed with as they are."""
    return type(tensor) not in (Tensor, nn.Parameter) and hasattr(tensor, "__tensor_flatten__")


def parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that hold a tensor's memory."""
    if not is_quantized(tensor):
        return [tensor]
    names, _ = cast("Any", tensor).__tensor_flatten__()
    return [part for name in names for part in parts(getattr(tensor, name))]


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Bytes that tensors hold; those that come more than once, as tied weights do, are counted once."""
    each = {id(tensor): tensor for tensor in tensors}.values()
    return sum(part.nbytes for tensor in each for part in parts(tensor))


def network_bytes(network: nn.Module) -> int:
    """Bytes of a network's parameters and buffers."""
    return nbytes([*network.parameters(), *network.buffers()])


def in_words(size: float) -> str:
    """So many bytes, as people say it: "7.2 GB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= 0.1 * scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"
