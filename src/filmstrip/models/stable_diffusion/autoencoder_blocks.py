"""The parts of the image autoencoder (arXiv:2112.10752). Pictures are (batch, channels, height, width)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.nn.attention_layers import Attention, Processor
from filmstrip.nn.autoencoder import Level
from filmstrip.nn.resnet import ResnetBlock2D

EPS = 1e-6


class PictureAttention(Attention):
    """Attention of all positions of a normalised picture to each other, in one head, added to the picture."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, None, heads=1, dim_head=channels, bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, EPS)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        processor: Processor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        tokens = self.group_norm(hidden_states).flatten(2).transpose(1, 2)  # (batch, height * width, channels)
        attended = super().forward(tokens, encoder_hidden_states, attention_mask, processor, **kwargs)
        return attended.transpose(1, 2).unflatten(2, hidden_states.shape[2:]) + hidden_states


def resnets(widths: Sequence[int], config: Config) -> list[ResnetBlock2D]:
    """Residual blocks from each width to the next, as the configuration has them."""
    settings = {"groups": config.norm_num_groups, "eps": EPS, "act_fn": config.act_fn}
    return [ResnetBlock2D(before, width, **settings) for before, width in pairwise(widths)]


class MidBlock(Level):
    """Two residual blocks at the lowest resolution, with attention between them unless it is left out."""

    def __init__(self, channels: int, config: Config) -> None:
        super().__init__(resnets([channels] * 3, config))
        attends = config.mid_block_add_attention
        self.attentions = nn.ModuleList([PictureAttention(channels, config.norm_num_groups)] if attends else [])

    def layers(self) -> list[nn.Module]:
        return [self.resnets[0], *self.attentions, self.resnets[1]]
