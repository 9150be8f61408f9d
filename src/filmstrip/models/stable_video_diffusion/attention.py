"""Attention over the positions of a frame and, in turn, over the frames of a position (arXiv:2304.08818)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.models.stable_video_diffusion.temporal import TimeMixer
from filmstrip.nn.attention_layers import Attention
from filmstrip.nn.embeddings import TwoLayers, sinusoidal_embedding
from filmstrip.nn.feed_forward import FeedForward
from filmstrip.nn.modules import module_list
from filmstrip.nn.spatial_transformer import SpatialTransformer
from filmstrip.nn.unet import Conditions


class TemporalTransformerBlock(nn.Module):
    """A feed-forward, attention over the frames of each position, attention to the condition, and a feed-forward."""

    def __init__(self, dim: int, num_heads: int, head_dim: int, cross_attention_dim: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(dim)
        self.ff_in = FeedForward(dim, activation_fn="geglu")
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, None, num_heads, head_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = Attention(dim, cross_attention_dim, num_heads, head_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, activation_fn="geglu")

    def forward(
        self,
        hidden_states: Tensor,  # (batch * frames, positions, dim)
        given: Conditions,
    ) -> Tensor:  # as `hidden_states`
        size, prompt = (-1, given.num_frames), given.encoder_hidden_states
        assert prompt is not None
        hidden_states = hidden_states + self.ff_in(self.norm_in(hidden_states))
        # (batch * positions, frames, dim)
        by_position = self.norm1(hidden_states).unflatten(0, size).transpose(1, 2).flatten(0, 1)
        positions = hidden_states.shape[1]
        attended = self.attn1(by_position).unflatten(0, (-1, positions)).transpose(1, 2).flatten(0, 1)
        hidden_states = hidden_states + attended
        # All positions and frames of a video attend to the same tokens: (batch, frames * positions, dim).
        queries = self.norm2(hidden_states).unflatten(0, size).flatten(1, 2)
        attended = self.attn2(queries, prompt[:: given.num_frames]).unflatten(1, (-1, positions)).flatten(0, 1)
        hidden_states = hidden_states + attended
        return hidden_states + self.ff(self.norm3(hidden_states))


class SpatioTemporalTransformer(SpatialTransformer):
    """Blocks over the positions of each frame, and after each one over time; both are mixed by a learned share."""

    def __init__(self, channels: int, num_heads: int, head_dim: int, num_layers: int, cross_attention_dim: int) -> None:
        super().__init__(channels, num_heads, head_dim, num_layers, cross_attention_dim, use_linear_projection=True)
        self.temporal_transformer_blocks = module_list(
            TemporalTransformerBlock(num_heads * head_dim, num_heads, head_dim, cross_attention_dim)
            for _ in range(num_layers)
        )
        self.time_pos_embed = TwoLayers(channels, 4 * channels, F.silu, channels)
        self.time_mixer = TimeMixer(0.5, of_time=False)

    def transform(self, tokens: Tensor, given: Conditions) -> Tensor:
        frames = torch.arange(given.num_frames, device=tokens.device)
        # Waves are computed in float32, and then in the type of the layers.
        waves = sinusoidal_embedding(frames, self.time_pos_embed.linear_1.in_features).to(tokens.dtype)
        places = self.time_pos_embed(waves)[:, None]  # (frames, 1, dim)
        share = self.time_mixer().to(tokens.dtype)
        for block, temporal in zip(self.transformer_blocks, self.temporal_transformer_blocks, strict=True):
            tokens = block(tokens, given)
            placed = (tokens.unflatten(0, (-1, given.num_frames)) + places).flatten(0, 1)
            tokens = torch.lerp(tokens, temporal(placed, given), share)
        return tokens
