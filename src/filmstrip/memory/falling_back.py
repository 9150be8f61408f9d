"""Decoding that goes on in smaller parts, and at last on the CPU, where memory does not suffice."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from filmstrip.devices import empty_cache, is_out_of_memory
from filmstrip.memory.casting import compute_dtype_of
from filmstrip.memory.coding import Size, Way, smaller_ways
from filmstrip.memory.quantization import dequantized
from filmstrip.memory.residency import execution_device

logger = logging.getLogger(__name__)

Decode = Callable[[Any], Iterator[Tensor]]
"""From an autoencoder, the video in runs of frames, (batch, 3, frames, height, width): all of it at each call."""


def decoded(decode: Decode, vae: Any, size: Size) -> Iterator[Tensor]:
    """Yield the frames that `decode` yields; where memory does not suffice, the rest of them decoded in another way.

    The autoencoder is set to that way only while it works, so that others who use it see nothing of it.

    Args:
        size: height and width of the frames in pixels.
    """
    device = execution_device(vae)
    attempts = [(Way("as it is set"), vae), *((way, vae) for way in smaller_ways(vae, *size))]
    if device.type != "cpu":
        attempts.append((Way("on the CPU"), None))
    done = 0
    for number, (way, network) in enumerate(attempts):
        if number:
            logger.warning("Decoding ran out of memory and continues %s.", way.name)
            empty_cache(device)
        network = on_cpu(vae) if network is None else network
        seen = 0
        try:
            for frames in way.while_working(network, decode(network)):
                new = frames[:, :, max(0, done - seen) :]
                seen += frames.shape[2]
                done = max(done, seen)
                if new.shape[2]:
                    yield new
            return
        except Exception as error:
            if number + 1 == len(attempts) or not is_out_of_memory(error):
                raise
        # Out of that block, nothing is left of what the error had seen.


def on_cpu(network: nn.Module) -> nn.Module:
    """A copy of a network on the CPU, in float32 if it computes in float16, which a CPU does badly.

    No memory of the device is used, and the network itself stays where it is.
    """
    computes_in = compute_dtype_of(network)  # where its weights are stored in a narrower type

    def moved(tensor: Tensor) -> Tensor:
        dtype = computes_in if computes_in and tensor.is_floating_point() and tensor.itemsize == 1 else tensor.dtype
        there = dequantized(tensor.detach()).to("cpu", torch.float32 if dtype == torch.float16 else dtype)
        return nn.Parameter(there, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else there

    tensors = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): moved(tensor) for tensor in tensors})
