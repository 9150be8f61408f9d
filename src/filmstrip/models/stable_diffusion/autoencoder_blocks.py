"""The parts of the image autoencoder (arXiv:2112.10752). Pictures are (batch, channels, height, width)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

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


class DownEncoderBlock2D(Block):
    """Residual blocks, then half the resolution."""

    def __init__(
        self, in_channels: int, out_channels: int, num_layers: int, groups: int, act_fn: str, downsamples: bool
    ) -> None:
        super().__init__()
        self.resnets = module_list(
            ResnetBlock2D(out_channels if i else in_channels, out_channels, groups=groups, eps=EPS, act_fn=act_fn)
            for i in range(num_layers)
        )
        self.downsamplers: list[Downsample2D] | None = None
        if downsamples:
            self.downsamplers = module_list([Downsample2D(out_channels, padding=0)])

    def layers(self) -> list[nn.Module]:
        return [*self.resnets, *(self.downsamplers or ())]


class UNetMidBlock2D(Block):
    """Two residual blocks at the lowest resolution, with attention between them unless it is left out."""

    def __init__(self, channels: int, groups: int, act_fn: str, add_attention: bool) -> None:
        super().__init__()
        self.attentions = module_list([PictureAttention(channels, groups)] if add_attention else [])
        self.resnets = module_list(
            ResnetBlock2D(channels, channels, groups=groups, eps=EPS, act_fn=act_fn) for _ in range(2)
        )

    def layers(self) -> list[nn.Module]:
        return [self.resnets[0], *self.attentions, self.resnets[1]]


class UpDecoderBlock2D(Block):
    """Residual blocks, then twice the resolution."""

    def __init__(
        self, in_channels: int, out_channels: int, num_layers: int, groups: int, act_fn: str, upsamples: bool
    ) -> None:
        super().__init__()
        self.resnets = module_list(
            ResnetBlock2D(out_channels if i else in_channels, out_channels, groups=groups, eps=EPS, act_fn=act_fn)
            for i in range(num_layers)
        )
        self.upsamplers: list[Upsample2D] | None = None
        if upsamples:
            self.upsamplers = module_list([Upsample2D(out_channels)])

    def layers(self) -> list[nn.Module]:
        return [*self.resnets, *(self.upsamplers or ())]
