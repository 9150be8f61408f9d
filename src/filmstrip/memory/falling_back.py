"""Decoding that goes on in smaller parts, and at last on the CPU, where memory does not suffice; or in float32."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from filmstrip.devices import empty_cache, is_out_of_memory
from filmstrip.memory.coding import Coding, Size, Way, smaller_ways
from filmstrip.memory.quantization import dequantized, ordinary_copy
from filmstrip.memory.residency import compute_dtype_of, execution_device, placed_like, release, turn_of

logger = logging.getLogger(__name__)

Decode = Callable[[Any, Coding | None], Iterator[Tensor]]
"""From an autoencoder and a coding, the video in runs of frames, (batch, 3, frames, height, width): all of it at each
call. Without a coding it is decoded as the autoencoder is set."""


def decoded(
    decode: Decode,
    vae: Any,
    size: Size,
    say: Callable[[str], None] = logger.warning,
    coding: Coding | None = None,
) -> Iterator[Tensor]:
    """Yield the frames that `decode` yields; where memory does not suffice, the rest of them decoded in another way.

    Where an autoencoder in float16 overflows, the rest are decoded in float32.

    Args:
        size: height and width of the frames in pixels.
        say: told what happens on the way.
        coding: what to begin with; None: as the autoencoder is set.
    """
    device = execution_device(vae)
    attempts = [(Way("as it is set", coding), vae), *((way, vae) for way in smaller_ways(vae, *size, coding))]
    if device.type != "cpu":
        attempts.append((Way("on the CPU"), None))
    done = 0
    with ExitStack() as copies:
        while True:
            way, network = attempts.pop(0)
            network = on_cpu(vae) if network is None else network
            seen = 0
            try:
                for frames in decode(network, way.coding):
                    if frames.dtype == torch.float16 and not bool(frames.isfinite().all()):
                        raise _OverflowInHalf
                    new = frames[:, :, max(0, done - seen) :]
                    seen += frames.shape[2]
                    done = max(done, seen)
                    if new.shape[2]:
                        yield new
                return
            except _OverflowInHalf:
                # Once more in the same way, and whatever comes after it, too.
                wide = copies.enter_context(in_float32(vae))
                attempts = [(way, wide), *((other, wide if one is vae else one) for other, one in attempts)]
                told = "Decoding overflowed in float16 and continues in float32."
            except Exception as error:
                if not attempts or not is_out_of_memory(error):
                    raise
                told = f"Decoding ran out of memory and continues {attempts[0][0].name}."
            # Out of that block, nothing is left of what the error had seen.
            say(told)
            empty_cache(device)


class _OverflowInHalf(Exception):
    """Frames in float16 are not finite."""


@contextmanager
def in_float32(network: nn.Module) -> Iterator[nn.Module]:
    """As long as it lasts, a copy of a network in float32, which comes to the device where the original would."""
    with turn_of(network):
        release(network)  # if it is offloaded, the copy is made where it waits, and comes to the device in its place
        copied = ordinary_copy(network).float()
    with placed_like(copied, network):
        yield copied


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
