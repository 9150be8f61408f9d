"""The parts of the image autoencoder (arXiv:2112.10752). Pictures are (batch, channels, height, width)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.nn.attention_layers import Attention, Processor
from filmstrip.nn.modules import module_list
from filmstrip.nn.resnet import Downsample2D, ResnetBlock2D, Upsample2D

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


class Block(nn.Module):
    """Layers that are run one after the other."""

    def layers(self) -> list[nn.Module]:
        """The layers, in their order."""
        raise NotImplementedError

    def forward(self, hidden_states: Tensor) -> Tensor:
        for layer in self.layers():
            hidden_states = layer(hidden_states)
        return hidden_states


class Level(Block):
    """Residual blocks at one resolution, then perhaps half the resolution, or twice."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_layers: int,
        config: Config,
        downsampler: Downsample2D | None = None,
        upsampler: Upsample2D | None = None,
    ) -> None:
        super().__init__()
        self.resnets = module_list(
            resnet(out_channels if i else in_channels, out_channels, config) for i in range(num_layers)
        )
        self.downsamplers = None if downsampler is None else module_list([downsampler])
        self.upsamplers = None if upsampler is None else module_list([upsampler])

    def layers(self) -> list[nn.Module]:
        return [*self.resnets, *(self.downsamplers or ()), *(self.upsamplers or ())]


class MidBlock(Block):
    """Two residual blocks at the lowest resolution, with attention between them unless it is left out."""

    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()
        attends = config.mid_block_add_attention
        self.attentions = module_list([PictureAttention(channels, config.norm_num_groups)] if attends else [])
        self.resnets = module_list(resnet(channels, channels, config) for _ in range(2))

    def layers(self) -> list[nn.Module]:
        return [self.resnets[0], *self.attentions, self.resnets[1]]


def resnet(in_channels: int, out_channels: int, config: Config) -> ResnetBlock2D:
    """A residual block as the configuration has them."""
    return ResnetBlock2D(in_channels, out_channels, groups=config.norm_num_groups, eps=EPS, act_fn=config.act_fn)
