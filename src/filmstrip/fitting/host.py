"""The host's memory: what weights need of it while they wait for the device that computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from filmstrip.checkpoints.tensors import is_mapped
from filmstrip.memory.sizes import is_quantized, nbytes


def waiting_bytes(networks: Mapping[str, nn.Module]) -> dict[str, int]:
    """Bytes of each network's weights that lie in no file, so that they need memory where they wait.

    Weights without values are those of an outline, and count as mapped.
    """
    return {name: nbytes(one for one in _tensors(network) if _needs_memory(one)) for name, network in networks.items()}


def waiting_bytes_by_headers(network: nn.Module, stored: Mapping[torch.dtype, int], dtype: torch.dtype) -> int:
    """The same of a network that is to be loaded in a type, by the bytes that its files hold in each type.

    What is quantised, and what the network lays out in another way than its file, does not stay in the file.
    """
    if any(map(is_quantized, network.parameters())):
        return sum(_size_in(one, dtype) for one in _tensors(network))
    relaid = sum(_size_in(one, dtype) for one in _tensors(network) if _is_relaid(one))
    converted = sum(size // of.itemsize * dtype.itemsize for of, size in stored.items() if of != dtype)
    return max(relaid, converted)


def _tensors(network: nn.Module) -> list[Tensor]:
    each = {id(one): one for one in (*network.parameters(), *network.buffers())}
    return list(each.values())


def _needs_memory(tensor: Tensor) -> bool:
    return not tensor.is_meta and (is_quantized(tensor) or not is_mapped(tensor))


def _is_relaid(tensor: Tensor) -> bool:
    if tensor.dim() != 4 or tensor.is_contiguous():
        return False
    return tensor.is_contiguous(memory_format=torch.channels_last)


def _size_in(tensor: Any, dtype: torch.dtype) -> int:
    return nbytes([tensor]) if is_quantized(tensor) else int(tensor.numel()) * dtype.itemsize
