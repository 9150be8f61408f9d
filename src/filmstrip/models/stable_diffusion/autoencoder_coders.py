"""Encoder and decoder of the image autoencoder (arXiv:2112.10752)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.models.stable_diffusion.autoencoder_blocks import (
    EPS,
    Block,
    DownEncoderBlock2D,
    UNetMidBlock2D,
    UpDecoderBlock2D,
)
from filmstrip.nn.modules import module_list
from filmstrip.nn.recomputing import recomputed
from filmstrip.nn.resnet import convolve_activated


def run_blocks(blocks: Sequence[Block], hidden_states: Tensor, is_recomputing: bool) -> Tensor:
    """What a chain of blocks makes of pictures, perhaps computed again in the backward pass."""
    for block in blocks:
        if is_recomputing and torch.is_grad_enabled():
            hidden_states = recomputed(block, hidden_states)
        else:
            for layer in block.layers():  # a call of the block would keep its input until its end
                hidden_states = layer(hidden_states)
    return hidden_states


class Encoder(nn.Module):
    """Pixels to the moments of the latents."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        norm_num_groups: int,
        act_fn: str,
        mid_block_add_attention: bool,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        widths = [block_out_channels[0], *block_out_channels]
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down_blocks = module_list(
            DownEncoderBlock2D(
                in_channels=widths[i],
                out_channels=widths[i + 1],
                num_layers=layers_per_block,
                groups=norm_num_groups,
                act_fn=act_fn,
                downsamples=i + 1 < len(block_out_channels),
            )
            for i in range(len(block_out_channels))
        )
        self.mid_block = UNetMidBlock2D(widths[-1], norm_num_groups, act_fn, mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * out_channels, 3, padding=1)

    def forward(
        self,
        pictures: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:  # (batch, 2 * out_channels, latent height, latent width)
        hidden_states = self.conv_in(pictures.contiguous(memory_format=torch.channels_last))
        hidden_states = run_blocks([*self.down_blocks, self.mid_block], hidden_states, self.gradient_checkpointing)
        return convolve_activated(self.conv_norm_out, F.silu, self.conv_out, hidden_states)


class Decoder(nn.Module):
    """Latents to pixels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        norm_num_groups: int,
        act_fn: str,
        mid_block_add_attention: bool,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        # Configurations list the blocks from pixels to latents; the decoder goes the other way.
        widths = [block_out_channels[-1], *reversed(block_out_channels)]
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.mid_block = UNetMidBlock2D(widths[0], norm_num_groups, act_fn, mid_block_add_attention)
        self.up_blocks = module_list(
            UpDecoderBlock2D(
                in_channels=widths[i],
                out_channels=widths[i + 1],
                num_layers=layers_per_block + 1,
                groups=norm_num_groups,
                act_fn=act_fn,
                upsamples=i + 1 < len(block_out_channels),
            )
            for i in range(len(block_out_channels))
        )
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(
        self,
        latents: Tensor,  # (batch, in_channels, latent height, latent width)
    ) -> Tensor:  # (batch, out_channels, height, width)
        hidden_states = self.conv_in(latents.contiguous(memory_format=torch.channels_last))
        hidden_states = run_blocks([self.mid_block, *self.up_blocks], hidden_states, self.gradient_checkpointing)
        return convolve_activated(self.conv_norm_out, F.silu, self.conv_out, hidden_states)
