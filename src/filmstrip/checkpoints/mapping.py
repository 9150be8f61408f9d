"""Weights that live in files of their own, and are mapped from there like those of a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from filmstrip.checkpoints.saving import write_tensors
from filmstrip.checkpoints.tensors import SafetensorsFile, is_mapped


def map_to_disk(network: nn.Module, path: Path) -> int:
    """Write the weights that are not mapped from files yet to a new file, and map them from there.

    The file can be removed once the program ends.

    Returns:
        The bytes written; without any there is no file.
    """
    tensors = {
        str(index): tensor
        for index, tensor in enumerate(_ordinary(network))
        if tensor.device.type == "cpu" and not is_mapped(tensor)
    }
    if not tensors:
        return 0
    # In the order of their values in memory: a layout such as channels last is kept.
    orders = {name: sorted(range(tensor.dim()), key=tensor.stride, reverse=True) for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    write_tensors(temporary, {name: tensor.detach().permute(orders[name]) for name, tensor in tensors.items()})
    temporary.replace(path)
    file = SafetensorsFile(path)
    for name, tensor in tensors.items():
        mapped = file.load(name, tensor.dtype, torch.device("cpu"))
        tensor.data = mapped.permute([orders[name].index(dim) for dim in range(tensor.dim())])
    return sum(tensor.nbytes for tensor in tensors.values())


def _ordinary(network: nn.Module) -> Iterable[Tensor]:
    """Parameters and buffers that hold numbers and nothing else, each once."""
    listed = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return [tensor for tensor in listed.values() if type(tensor) in (Tensor, nn.Parameter) and tensor.numel()]
