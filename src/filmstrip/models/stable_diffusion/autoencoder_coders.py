"""Encoder and decoder of the image autoencoder (arXiv:2112.10752)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.models.stable_diffusion.autoencoder_blocks import EPS, MidBlock, resnets
from filmstrip.nn.autoencoder import Level
from filmstrip.nn.modules import module_list
from filmstrip.nn.recomputing import recomputed
from filmstrip.nn.resnet import Downsample2D, Upsample2D, convolve_activated


def run_blocks(blocks: Sequence[Level], hidden_states: Tensor, is_recomputing: bool) -> Tensor:
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

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        widths = [config.block_out_channels[0], *config.block_out_channels]
        samplers = [*(Downsample2D(width, padding=0) for width in widths[1:-1]), None]
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = module_list(
            Level(resnets([before, *[width] * config.layers_per_block], config), downsampler=sampler)
            for (before, width), sampler in zip(pairwise(widths), samplers, strict=True)
        )
        self.mid_block = MidBlock(widths[-1], config)
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(
        self,
        pictures: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:  # (batch, 2 * latent_channels, latent height, latent width)
        hidden_states = self.conv_in(pictures.contiguous(memory_format=torch.channels_last))
        hidden_states = run_blocks([*self.down_blocks, self.mid_block], hidden_states, self.gradient_checkpointing)
        return convolve_activated(self.conv_norm_out, F.silu, self.conv_out, hidden_states)


class Decoder(nn.Module):
    """Latents to pixels."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        # Configurations list the blocks from pixels to latents; the decoder goes the other way.
        widths = [config.block_out_channels[-1], *reversed(config.block_out_channels)]
        samplers = [*(Upsample2D(width) for width in widths[1:-1]), None]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MidBlock(widths[0], config)
        self.up_blocks = module_list(
            Level(resnets([before, *[width] * (config.layers_per_block + 1)], config), upsampler=sampler)
            for (before, width), sampler in zip(pairwise(widths), samplers, strict=True)
        )
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(
        self,
        latents: Tensor,  # (batch, latent_channels, latent height, latent width)
    ) -> Tensor:  # (batch, out_channels, height, width)
        hidden_states = self.conv_in(latents.contiguous(memory_format=torch.channels_last))
        hidden_states = run_blocks([self.mid_block, *self.up_blocks], hidden_states, self.gradient_checkpointing)
        return convolve_activated(self.conv_norm_out, F.silu, self.conv_out, hidden_states)
