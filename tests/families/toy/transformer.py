"""The toy's network: tokens that attend to a prompt, and to nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from filmstrip.network import Model
from filmstrip.nn.attention_layers import Attention
from filmstrip.nn.feed_forward import FeedForward, ForwardChunking


class ToyBlock(nn.Module):
    """Attention to the prompt, then feed-forward."""

    def __init__(self, dim: int, text_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, text_dim, heads=2, dim_head=dim // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, expansion=2)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, tokens, dim)
        encoder_hidden_states: Tensor,  # (batch, prompt_tokens, text_dim)
    ) -> Tensor:  # (batch, tokens, dim)
        hidden_states = hidden_states + self.attn(self.norm1(hidden_states), encoder_hidden_states)
        return hidden_states + self.ff(self.norm2(hidden_states))


class ToyTransformer(ForwardChunking, Model):
    """Predicts the noise in latents."""

    def __init__(self, in_channels: int = 4, dim: int = 16, text_dim: int = 16, num_layers: int = 2) -> None:
        super().__init__()
        self.proj_in = nn.Linear(in_channels, dim)
        self.time = nn.Linear(1, dim)
        self.transformer_blocks = nn.ModuleList(ToyBlock(dim, text_dim) for _ in range(num_layers))
        self.proj_out = nn.Linear(dim, in_channels)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, channels, frames, height, width)
        timestep: Tensor,  # (batch,), from 999 (noise) to 0
        encoder_hidden_states: Tensor,  # (batch, prompt_tokens, text_dim)
    ) -> Tensor:  # as hidden_states
        tokens = self.proj_in(hidden_states.movedim(1, -1).flatten(1, -2))  # (batch, tokens, dim)
        tokens = tokens + self.time(timestep[:, None, None].to(tokens.dtype) / 1000)
        for block in self.transformer_blocks:
            tokens = block(tokens, encoder_hidden_states)
        tokens = self.proj_out(tokens)
        return torch.unflatten(tokens, 1, hidden_states.shape[2:]).movedim(-1, 1)
