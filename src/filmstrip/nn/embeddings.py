"""Embeddings of timesteps and captions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoidal_embedding(
    timestep: Tensor,  # (batch,)
    dim: int,
    max_period: float = 10000.0,
    flip_sin_to_cos: bool = True,
    freq_shift: float = 0.0,
) -> Tensor:  # (batch, dim), float32
    """Waves of geometrically falling frequency (arXiv:1706.03762, section 3.5).

    Args:
        flip_sin_to_cos: cosines come first; otherwise sines do.
        freq_shift: 1 lets the last wave have the period `2 * pi * max_period`; with 0 it falls just short of it.
    """
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timestep.device) / (half - freq_shift)
    angles = timestep.float()[:, None] * torch.exp(-math.log(max_period) * exponents)
    waves = [angles.cos(), angles.sin()] if flip_sin_to_cos else [angles.sin(), angles.cos()]
    return torch.cat(waves, dim=-1)


class TwoLayers(nn.Module):
    """Two linear layers with an activation between them: embedded timesteps and captions brought to a model's width.

    Args:
        out_dim: of what comes out; None: `dim`, as between the layers.
    """

    def __init__(
        self, in_channels: int, dim: int, activation: Callable[[Tensor], Tensor], out_dim: int | None = None
    ) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, dim)
        self.linear_2 = nn.Linear(dim, out_dim or dim)
        self.activation = activation

    def forward(self, features: Tensor) -> Tensor:
        return self.linear_2(self.activation(self.linear_1(features)))


class ConditionedEmbedding(TwoLayers):
    """An embedded timestep, with another vector added to its waves (the guidance scale of distilled models)."""

    def __init__(
        self, in_channels: int, dim: int, activation: Callable[[Tensor], Tensor], condition_dim: int | None
    ) -> None:
        super().__init__(in_channels, dim, activation)
        self.cond_proj = None if condition_dim is None else nn.Linear(condition_dim, in_channels, bias=False)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is not None:
            if self.cond_proj is None:
                raise ValueError("timestep_cond has no effect on a network without time_cond_proj_dim; drop it.")
            features = features + self.cond_proj(condition)
        return super().forward(features)


class CombinedTimestepEmbedding(nn.Module):
    """Timesteps embedded through 256 waves; the level of names is the checkpoints' (PixArt-alpha, arXiv:2310.00426)."""

    num_waves = 256

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.timestep_embedder = TwoLayers(self.num_waves, dim, F.silu)

    def forward(
        self,
        timestep: Tensor,  # (batch,)
        dtype: torch.dtype,
    ) -> Tensor:  # (batch, dim)
        # The waves are computed in float32: neighbouring timesteps would coincide in half precision.
        return self.timestep_embedder(sinusoidal_embedding(timestep, self.num_waves).to(dtype))


class AdaLayerNormSingle(nn.Module):
    """One projection of the timestep to the scales, shifts and gates of all blocks (PixArt-alpha, section 2.3)."""

    def __init__(self, dim: int, num_modulations: int = 6) -> None:
        super().__init__()
        self.emb = CombinedTimestepEmbedding(dim)
        self.linear = nn.Linear(dim, num_modulations * dim)

    def forward(
        self,
        timestep: Tensor,  # (batch,)
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:  # (batch, num_modulations * dim) and (batch, dim)
        embedded = self.emb(timestep, dtype)
        return self.linear(F.silu(embedded)), embedded
