"""Activation functions by the names that configurations give them."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from filmstrip.json_files import shown

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "relu": F.relu,
}


def activation_named(name: str) -> Activation:
    """The function of `act_fn`."""
    if name.lower() not in ACTIVATIONS:
        raise ValueError(f"act_fn is one of {', '.join(ACTIVATIONS)}, got {shown(name)}.")
    return ACTIVATIONS[name.lower()]
