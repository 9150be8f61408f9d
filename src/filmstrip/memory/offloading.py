"""Offloading as users ask for it: what the arguments of the calls mean, and what is said of them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from filmstrip.devices import has_accelerator, has_streams, means_accelerator, parse_device
from filmstrip.json_files import shown
from filmstrip.memory.quantization import check_movable
from filmstrip.memory.residency import Grain, place

logger = logging.getLogger(__name__)

GRAINS = {"block_level": "blocks", "leaf_level": "leaves"}


@functools.cache
def tell_once(sentence: str) -> None:
    """Say something that is worth saying once in the life of a program."""
    logger.warning(sentence)


def offload(
    networks: Mapping[str, nn.Module],
    device: torch.device,
    grain: Grain,
    *,
    streamed: bool = False,
    together: Collection[str] = (),
    but: Mapping[str, Grain] | None = None,
) -> bool:
    """`place`, after the weights went to the CPU. False if there is nothing to do: the device is a CPU."""
    if device.type == "cpu":
        tell_once("There is no accelerator to keep weights off: offloading changes nothing on a CPU.")
        return False
    for network in networks.values():
        check_movable(network, device)
    for network in networks.values():
        network.to("cpu")
    place(networks, device, grain, streamed=streamed, together=together, but=but)
    return True


def computing_device(device: str | torch.device | None) -> torch.device:
    """The device that is meant, or the CPU on a machine without an accelerator, whichever one is asked for.

    Raises:
        ValueError: there is no such device, but another.
    """
    try:
        return parse_device(device)
    except ValueError:
        if has_accelerator() or not means_accelerator(device):
            raise
        return torch.device("cpu")


def group_grain(offload_type: str, num_blocks_per_group: int | None) -> Grain:
    """The grain that arguments of `enable_group_offload` name.

    Raises:
        ValueError: there is no such grain.
    """
    if offload_type not in GRAINS:
        raise ValueError(f"offload_type must be 'block_level' or 'leaf_level', got {shown(offload_type)}.")
    if offload_type == "leaf_level":
        if num_blocks_per_group is not None:
            raise ValueError("num_blocks_per_group has no effect with offload_type='leaf_level'; drop it.")
        return Grain("leaves")
    num_blocks = 1 if num_blocks_per_group is None else num_blocks_per_group
    if num_blocks < 1:
        raise ValueError(f"num_blocks_per_group must be at least 1, got {num_blocks_per_group}.")
    return Grain("blocks", num_blocks)


def check_group_arguments(
    onload_device: str | torch.device, offload_device: str | torch.device, use_stream: bool, **without_effect: Any
) -> torch.device:
    """Where groups are to compute, with a word on arguments that change nothing.

    Raises:
        ValueError: groups can't come there, or not that way.
    """
    device = computing_device(onload_device)
    if parse_device(offload_device).type != "cpu":
        raise ValueError(f"weights wait on the CPU; offload_device must be 'cpu', got {str(offload_device)!r}.")
    if use_stream and device.type != "cpu" and not has_streams(device):
        raise ValueError(f"use_stream has no effect on {device}, which has no streams; drop it.")
    if given := [name for name, value in without_effect.items() if value]:
        tell_once(
            f"{' and '.join(given)} of enable_group_offload changes nothing here: with use_stream copies never block,"
            " memory is given back when the device is done with it, and pinned memory is two groups at most."
        )
    return device
