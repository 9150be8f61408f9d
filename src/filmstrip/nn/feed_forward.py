"""The feed-forward half of a transformer block."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.nn.linear import BLOCK_TOKENS, fused_linear, fuses, linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu-approximate": partial(F.gelu, approximate="tanh"),
    "geglu": F.gelu,
    "geglu-approximate": lambda hidden_states: hidden_states * torch.sigmoid(1.702 * hidden_states),
    "linear-silu": F.silu,
    "swiglu": F.silu,
}
# Those that are applied to a second half of the widened channels, which gates the first (arXiv:2002.05202).
GATED = ("geglu", "swiglu")
# How the CPU's matrix library calls those that it can apply while it still holds a product in registers.
FUSED: dict[str, tuple[str, list[float], str]] = {
    "gelu": ("gelu", [], "none"),
    "gelu-approximate": ("gelu", [], "tanh"),
}


class _Activated(nn.Module):
    """The widening layer with its activation; a level of names in published checkpoints."""

    def __init__(self, dim: int, inner_dim: int, activation_fn: str) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner_dim if activation_fn in GATED else inner_dim)
        self.activation_fn = activation_fn

    def forward(self, hidden_states: Tensor) -> Tensor:
        if self.activation_fn in FUSED and fuses(self.proj, hidden_states):
            # The activation costs nothing this way, where it would take a seventh of the product's time (bfloat16).
            return fused_linear(self.proj, hidden_states, FUSED[self.activation_fn])
        hidden_states = self.proj(hidden_states)
        if self.activation_fn in GATED:
            hidden_states, gate = hidden_states.chunk(2, dim=-1)
            return hidden_states * ACTIVATIONS[self.activation_fn](gate)
        return ACTIVATIONS[self.activation_fn](hidden_states)


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
        if not fuses(self.net[2], hidden_states):
            return self._at_once(hidden_states)
        # The widened tokens of a block stay in the caches, and in memory that need not be asked for each time.
        blocks = hidden_states.flatten(0, -2).split(BLOCK_TOKENS * torch.get_num_threads())
        return torch.cat([self._at_once(block) for block in blocks]).view(hidden_states.shape)

    def _at_once(self, hidden_states: Tensor) -> Tensor:
        activated, placeholder, narrowed = self.net
        return linear(narrowed, placeholder(activated(hidden_states)))
