"""The attention of CogVideoX (arXiv:2408.06072), with its three projections apart or as one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from filmstrip.kernels.attention import attention
from filmstrip.kernels.layers import Linear
from filmstrip.kernels.linear import product
from filmstrip.kernels.plain import kind_of
from filmstrip.nn.heads import normed_heads


class CogVideoXProjections:
    """Queries, keys and values from three products."""

    def __call__(self, attn: CogVideoXAttention, hidden_states: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(hidden_states) for layer in attn.projections())


class FusedCogVideoXProjections(CogVideoXProjections):
    """Queries, keys and values from one product.

    The weights of the three layers become views of one tensor, so they can still be saved, loaded and changed in
    place. Three products serve where they no longer are, where gradients are asked for, and in compiled graphs.
    """

    def __init__(self, attn: CogVideoXAttention) -> None:
        from filmstrip.memory.sizes import is_quantized

        # Listed, and not read: weights that come to a device when they are read are joined where they wait.
        parts = [dict(layer.named_parameters(recurse=False)) for layer in attn.projections()]
        if any(is_quantized(part["weight"]) for part in parts):
            raise ValueError("the weights are quantised, so they can't be joined; quantised layers compute apart.")
        self.weight = torch.cat([part["weight"].detach() for part in parts])
        self.bias = torch.cat([part["bias"].detach() for part in parts]) if "bias" in parts[0] else None
        for i, part in enumerate(parts):
            part["weight"].data = self.weight.chunk(3)[i]
            if self.bias is not None:
                part["bias"].data = self.bias.chunk(3)[i]

    def __call__(self, attn: CogVideoXAttention, hidden_states: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or not self._is_current(attn):
            return super().__call__(attn, hidden_states)
        return product(hidden_states, self.weight, self.bias).chunk(3, dim=-1)

    def _is_current(self, attn: CogVideoXAttention) -> bool:
        pairs = [(self.weight, "weight")] if self.bias is None else [(self.weight, "weight"), (self.bias, "bias")]
        return all(
            kind_of(layer) is nn.Linear and getattr(layer, name).data_ptr() == part.data_ptr()
            for whole, name in pairs
            for layer, part in zip(attn.projections(), whole.chunk(3), strict=True)
        )


class CogVideoXAttention(nn.Module):
    """Multi-head attention of all tokens to all; queries and keys are normalised within each head."""

    def __init__(self, dim: int, num_heads: int, head_dim: int, bias: bool) -> None:
        super().__init__()
        inner_dim = num_heads * head_dim
        self.num_heads = num_heads
        self.norm_q = nn.LayerNorm(head_dim, eps=1e-6)
        self.norm_k = nn.LayerNorm(head_dim, eps=1e-6)
        self.to_q = Linear(dim, inner_dim, bias=bias)
        self.to_k = Linear(dim, inner_dim, bias=bias)
        self.to_v = Linear(dim, inner_dim, bias=bias)
        # The second entry holds the place of the dropout that published names count.
        self.to_out = nn.ModuleList([Linear(inner_dim, dim), nn.Identity()])
        self.processor = CogVideoXProjections()

    def forward(
        self,
        hidden_states: Tensor,  # (batch, tokens, dim)
        rotary: Tensor | None,  # (tokens, head_dim / 2, 2)
    ) -> Tensor:  # (batch, tokens, dim)
        query, key, value = self.processor(self, hidden_states)
        query = normed_heads(query, self.num_heads, self.norm_q, rotary)
        key = normed_heads(key, self.num_heads, self.norm_k, rotary)
        value = value.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        joined: Tensor = self.to_out[0](attention(query, key, value).transpose(1, 2).flatten(2))
        return joined

    def projections(self) -> list[nn.Linear]:
        """The layers of queries, keys and values."""
        return [self.to_q, self.to_k, self.to_v]

    def fuse_projections(self, fuse: bool = True) -> None:
        """Compute queries, keys and values in one product, or in three again."""
        from filmstrip.memory.residency import release

        release(self)
        self.processor = FusedCogVideoXProjections(self) if fuse else CogVideoXProjections()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CogVideoXAttention:
        super()._apply(fn, recurse)
        if isinstance(self.processor, FusedCogVideoXProjections):  # weights that were moved lie apart
            self.fuse_projections()
        return self
