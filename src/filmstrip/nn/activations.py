"""Activation functions by the names that configurations give them."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

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
        raise ValueError(f"act_fn is one of {', '.join(ACTIVATIONS)}, got {name!r}.")
    return ACTIVATIONS[name.lower()]
