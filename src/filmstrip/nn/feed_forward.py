"""The feed-forward half of a transformer block."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.json_files import shown
from filmstrip.kernels.layers import Linear
from filmstrip.kernels.linear import BLOCK_TOKENS, fuses, product
from filmstrip.kernels.onednn import Activation
from filmstrip.kernels.valueless import joined

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
# Those that a CPU can apply as part of the product.
FUSED: dict[str, Activation] = {
    "gelu": ("gelu", [], "none"),
    "gelu-approximate": ("gelu", [], "tanh"),
    "geglu": ("gelu", [], "none"),
    "swiglu": ("swish", [], ""),
    "linear-silu": ("swish", [], ""),
}


class _Activated(nn.Module):
    """The widening layer with its activation; a level of names in published checkpoints."""

    def __init__(self, dim: int, inner_dim: int, activation_fn: str) -> None:
        super().__init__()
        self.proj = Linear(dim, 2 * inner_dim if activation_fn in GATED else inner_dim)
        self.activation_fn = activation_fn

    def forward(self, hidden_states: Tensor) -> Tensor:
        if self.activation_fn in FUSED and fuses(self.proj, hidden_states):
            # The activation costs nothing this way, where it would take a seventh of the product's time (bfloat16).
            fused = FUSED[self.activation_fn]
            if self.activation_fn not in GATED:
                return product(hidden_states, self.proj.weight, self.proj.bias, fused)
            weights, gate_weights = self.proj.weight.chunk(2)
            bias, gate_bias = self.proj.bias.chunk(2)
            gate = product(hidden_states, gate_weights, gate_bias, fused)
            return gate.mul_(product(hidden_states, weights, bias))
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
            raise ValueError(f"activation_fn must be one of {', '.join(ACTIVATIONS)}, got {shown(activation_fn)}.")
        inner_dim = expansion * dim
        # The middle entry holds the place of the dropout that published names count.
        self.net = nn.ModuleList([_Activated(dim, inner_dim, activation_fn), nn.Identity(), Linear(inner_dim, dim)])
        self.chunking: tuple[int, int] | None = None  # size and dimension, set by `ForwardChunking`

    def forward(self, hidden_states: Tensor) -> Tensor:
        if self.chunking is None:
            return self._whole(hidden_states)
        size, dim = self.chunking
        return torch.cat([self._whole(chunk) for chunk in hidden_states.split(size, dim)], dim)

    def _whole(self, hidden_states: Tensor) -> Tensor:
        if not fuses(self.net[2], hidden_states):
            return self._at_once(hidden_states)
        # The widened tokens of a block stay in the caches, and in memory that need not be asked for each time.
        blocks = hidden_states.flatten(0, -2).split(BLOCK_TOKENS * torch.get_num_threads())
        return joined(self._at_once, blocks).view(hidden_states.shape)

    def _at_once(self, hidden_states: Tensor) -> Tensor:
        activated, placeholder, narrowed = self.net
        narrow: Tensor = narrowed(placeholder(activated(hidden_states)))
        return narrow


class ForwardChunking:
    """Mixed into a network: a switch by which its feed-forward layers take their tokens in chunks, for less memory."""

    def enable_forward_chunking(self, chunk_size: int | None = None, dim: int = 0) -> None:
        """Take so many rows of a batch at once, or so many tokens; the result is the same.

        Args:
            chunk_size: None takes one.
            dim: 0 divides the batch, which holds the frames of a video, and 1 the tokens.
        """
        if dim not in (0, 1):
            raise ValueError(f"dim must be 0 (the batch) or 1 (the tokens), got {shown(dim)}.")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size}.")
        self._set_chunking((chunk_size or 1, dim))

    def disable_forward_chunking(self) -> None:
        """Take all tokens at once again."""
        self._set_chunking(None)

    def _set_chunking(self, chunking: tuple[int, int] | None) -> None:
        assert isinstance(self, nn.Module)
        for module in self.modules():
            if isinstance(module, FeedForward):
                module.chunking = chunking
