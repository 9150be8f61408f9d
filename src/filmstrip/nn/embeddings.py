"""Embeddings of timesteps and captions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoidal_embedding(
    timestep: Tensor,  # (batch,)
    dim: int,
    max_period: float = 10000.0,
) -> Tensor:  # (batch, dim), float32, cosines first
    """Waves of geometrically falling frequency (arXiv:1706.03762, section 3.5)."""
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timestep.device) / half
    angles = timestep.float()[:, None] * torch.exp(-math.log(max_period) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedding(nn.Module):
    """Two linear layers with a SiLU between them, on a sinusoidal embedding."""

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, embedding: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(embedding)))


class CombinedTimestepEmbedding(nn.Module):
    """Timesteps embedded through 256 waves; the level of names is the checkpoints' (PixArt-alpha, arXiv:2310.00426)."""

    num_waves = 256

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(self.num_waves, dim)

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


class TextProjection(nn.Module):
    """Caption features brought to the width of the transformer."""

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, caption: Tensor) -> Tensor:
        return self.linear_2(F.gelu(self.linear_1(caption), approximate="tanh"))
