"""Transformer blocks over the positions of a picture: the attention of latent diffusion (arXiv:2112.10752)."""

from __future__ import annotations

from torch import Tensor, nn

from filmstrip.kernels.layers import Conv2d, Linear
from filmstrip.kernels.linear import product
from filmstrip.kernels.plain import is_plain
from filmstrip.nn.attention_layers import Attention
from filmstrip.nn.feed_forward import FeedForward
from filmstrip.nn.modules import module_list
from filmstrip.nn.unet import Conditions

GROUP_NORM_EPS = 1e-6


class BasicTransformerBlock(nn.Module):
    """Attention of tokens to themselves, then to a prompt, then a feed-forward, each after a norm.

    Args:
        cross_attention_dim: width of the prompt; None if there is none.
        only_cross_attention: the first attention, too, is to the prompt.
        attends_twice: the second attention, too, is to the tokens themselves.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        head_dim: int,
        cross_attention_dim: int | None,
        *,
        activation_fn: str = "geglu",
        attention_bias: bool = False,
        only_cross_attention: bool = False,
        attends_twice: bool = False,
    ) -> None:
        super().__init__()
        self.only_cross_attention, self.attends_twice = only_cross_attention, attends_twice
        self.norm1 = nn.LayerNorm(dim)
        first_dim = cross_attention_dim if only_cross_attention else None
        self.attn1 = Attention(dim, first_dim, num_heads, head_dim, attention_bias)
        self.norm2, self.attn2 = None, None
        if cross_attention_dim is not None or attends_twice:
            self.norm2 = nn.LayerNorm(dim)
            second_dim = None if attends_twice else cross_attention_dim
            self.attn2 = Attention(dim, second_dim, num_heads, head_dim, attention_bias)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, activation_fn=activation_fn)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, tokens, dim)
        given: Conditions,
    ) -> Tensor:  # (batch, tokens, dim)
        kwargs = given.cross_attention_kwargs
        normed = self.norm1(hidden_states)
        if self.only_cross_attention:
            attended = self._to_prompt(self.attn1, normed, given)
        else:
            attended = self.attn1(normed, None, given.attention_mask, **kwargs)
        hidden_states = hidden_states + attended
        if self.norm2 is not None and self.attn2 is not None:
            normed = self.norm2(hidden_states)
            twice = self.attends_twice
            attended = self.attn2(normed, **kwargs) if twice else self._to_prompt(self.attn2, normed, given)
            hidden_states = hidden_states + attended
        return hidden_states + self.ff(self.norm3(hidden_states))

    def _to_prompt(self, attn: Attention, hidden_states: Tensor, given: Conditions) -> Tensor:
        prompt, mask, kwargs = given.encoder_hidden_states, given.encoder_attention_mask, given.cross_attention_kwargs
        if given.num_frames == 1 or prompt is None or len(prompt) == len(hidden_states):
            return attn(hidden_states, prompt, mask, **kwargs)
        # The tokens of all frames of a video read the one prompt, whose keys and values are then computed once.
        videos = hidden_states.unflatten(0, (-1, given.num_frames)).flatten(1, 2)  # (batch, frames * tokens, dim)
        return attn(videos, prompt, mask, **kwargs).reshape(hidden_states.shape)


class SpatialTransformer(nn.Module):
    """Transformer blocks over all positions of a picture, added to it.

    Args:
        use_linear_projection: positions are projected by a linear layer, else by a convolution of one position.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_dim: int,
        num_layers: int,
        cross_attention_dim: int | None,
        *,
        groups: int = 32,
        use_linear_projection: bool = False,
        only_cross_attention: bool = False,
    ) -> None:
        super().__init__()
        inner_dim = num_heads * head_dim
        self.norm = nn.GroupNorm(groups, channels, GROUP_NORM_EPS)
        self.use_linear_projection = use_linear_projection
        self.proj_in: nn.Module
        self.proj_out: nn.Module
        if use_linear_projection:
            self.proj_in, self.proj_out = Linear(channels, inner_dim), Linear(inner_dim, channels)
        else:
            self.proj_in, self.proj_out = Conv2d(channels, inner_dim, 1), Conv2d(inner_dim, channels, 1)
        self.transformer_blocks = module_list(
            BasicTransformerBlock(
                inner_dim, num_heads, head_dim, cross_attention_dim, only_cross_attention=only_cross_attention
            )
            for _ in range(num_layers)
        )

    def forward(
        self,
        hidden_states: Tensor,  # (batch, channels, height, width)
        given: Conditions,
    ) -> Tensor:  # (batch, channels, height, width)
        rows = hidden_states.shape[-2]
        tokens = self._projected(self.proj_in, self.norm(hidden_states).flatten(2).transpose(1, 2))
        tokens = self._projected(self.proj_out, self.transform(tokens, given))
        return hidden_states + tokens.transpose(1, 2).unflatten(2, (rows, -1))

    def transform(self, tokens: Tensor, given: Conditions) -> Tensor:
        """What the blocks make of tokens, (batch, positions, channels)."""
        for block in self.transformer_blocks:
            tokens = block(tokens, given)
        return tokens

    def _projected(self, layer: nn.Module, tokens: Tensor) -> Tensor:
        """Tokens, (batch, positions, channels), projected."""
        if is_plain(layer, nn.Conv2d):  # of one position, which is a linear layer
            return product(tokens, layer.weight.flatten(1), layer.bias)
        if self.use_linear_projection:
            projected: Tensor = layer(tokens)
            return projected
        positions: Tensor = layer(tokens.transpose(1, 2).unsqueeze(3))  # (batch, channels, positions, 1)
        return positions.squeeze(3).transpose(1, 2)
