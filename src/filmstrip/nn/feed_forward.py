"""The feed-forward half of a transformer block."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


@cache
def _processor_fuses() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Activated(nn.Module):
    """The widening layer with its activation; a level of names in published checkpoints."""

    def __init__(self, dim: int, inner_dim: int, activation_fn: str) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner_dim if activation_fn in GATED else inner_dim)
        self.activation_fn = activation_fn

    def forward(self, hidden_states: Tensor) -> Tensor:
        if self._fuses(hidden_states):
            # The activation costs nothing this way, where it would take a seventh of the product's time (bfloat16).
            fused = FUSED[self.activation_fn]
            return torch.ops.mkldnn._linear_pointwise(hidden_states, self.proj.weight, self.proj.bias, *fused)
        hidden_states = self.proj(hidden_states)
        if self.activation_fn in GATED:
            hidden_states, gate = hidden_states.chunk(2, dim=-1)
            return hidden_states * ACTIVATIONS[self.activation_fn](gate)
        return ACTIVATIONS[self.activation_fn](hidden_states)

    def _fuses(self, hidden_states: Tensor) -> bool:
        return (
            hidden_states.dtype == self.proj.weight.dtype == torch.bfloat16
            and hidden_states.device.type == "cpu"
            and self.activation_fn in FUSED
            and not torch.compiler.is_compiling()
            and not torch.is_grad_enabled()  # the fused product has no gradient
            and type(self.proj) is nn.Linear  # a layer put in its place computes something else
            and _processor_fuses()
        )


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
