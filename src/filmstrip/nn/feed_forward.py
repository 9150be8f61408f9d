"""The feed-forward half of a transformer block."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu-approximate": partial(F.gelu, approximate="tanh"),
    "linear-silu": F.silu,
}


class _Activated(nn.Module):
    """The widening layer with its activation; a level of names in published checkpoints."""

    def __init__(self, dim: int, inner_dim: int, activation_fn: str) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, inner_dim)
        self.activation = ACTIVATIONS[activation_fn]

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.activation(self.proj(hidden_states))


class FeedForward(nn.Module):
    """Widen, activate, narrow, for each token alone."""

    def __init__(self, dim: int, expansion: int = 4, activation_fn: str = "gelu-approximate") -> None:
        super().__init__()
        if activation_fn not in ACTIVATIONS:
            raise ValueError(f"activation_fn must be one of {', '.join(ACTIVATIONS)}, got {activation_fn!r}.")
        inner_dim = expansion * dim
        # The middle entry holds the place of the dropout that published names count.
        self.net = nn.ModuleList([_Activated(dim, inner_dim, activation_fn), nn.Identity(), nn.Linear(inner_dim, dim)])

    def forward(self, hidden_states: Tensor) -> Tensor:
        for layer in self.net:
            hidden_states = layer(hidden_states)
        return hidden_states
