"""Encoder and decoder of CogVideoX's autoencoder; each turns one chunk of a video, and keeps its past in a stream."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.kernels.layout import channels_last
from filmstrip.models.cogvideox.autoencoder_blocks import (
    CogVideoXDownsample3D,
    CogVideoXLevel3D,
    CogVideoXSpatialNorm3D,
    CogVideoXUpsample3D,
    affine_of,
    convolve_activated,
    resnets,
)
from filmstrip.nn.causal_conv import CausalConv3d
from filmstrip.nn.modules import module_list
from filmstrip.nn.recomputing import recomputed
from filmstrip.nn.streaming import FrameStream

NORM_OUT_EPS = 1e-6


def run_blocks(
    blocks: Sequence[CogVideoXLevel3D],
    hidden_states: Tensor,
    latents: Tensor | None,  # what the norms of a decoder see
    stream: FrameStream | None,
    is_recomputing: bool,
) -> Tensor:
    """What a chain of blocks makes of a chunk, perhaps computed again in the backward pass."""
    for block in blocks:
        if is_recomputing and torch.is_grad_enabled():
            # The second time, the block must find the stream as it was the first time: `before` stays as it is.
            before = None if stream is None else stream.fork()
            hidden_states, after = recomputed(_from_a_copy, block, hidden_states, latents, before)
            if stream is not None and after is not None:
                stream.adopt(after)
        else:
            hidden_states = block(hidden_states, latents, stream)
    return hidden_states


def _from_a_copy(
    block: CogVideoXLevel3D, hidden_states: Tensor, latents: Tensor | None, stream: FrameStream | None
) -> tuple[Tensor, FrameStream | None]:
    after = None if stream is None else stream.fork()
    return block(hidden_states, latents, after), after


class CogVideoXEncoder3D(nn.Module):
    """Pixels to the moments of the latents."""

    def __init__(self, config: Config, time_halvings: int) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        widths = [config.block_out_channels[0], *config.block_out_channels]
        samplers = [*(CogVideoXDownsample3D(width, i < time_halvings) for i, width in enumerate(widths[1:-1])), None]
        self.conv_in = CausalConv3d(config.in_channels, widths[0])
        self.down_blocks = module_list(
            CogVideoXLevel3D(resnets([before, *[width] * config.layers_per_block], config), downsampler=sampler)
            for (before, width), sampler in zip(pairwise(widths), samplers, strict=True)
        )
        self.mid_block = CogVideoXLevel3D(resnets([widths[-1]] * 3, config))
        self.norm_out = nn.GroupNorm(config.norm_num_groups, widths[-1], NORM_OUT_EPS)
        self.conv_out = CausalConv3d(widths[-1], 2 * config.latent_channels)

    def forward(
        self,
        video: Tensor,  # (batch, in_channels, frames, height, width)
        stream: FrameStream | None = None,
    ) -> Tensor:  # (batch, 2 * latent_channels, latent frames, latent height, latent width)
        hidden_states = self.conv_in(channels_last(video), stream)
        blocks = [*self.down_blocks, self.mid_block]
        hidden_states = run_blocks(blocks, hidden_states, None, stream, self.gradient_checkpointing)
        affine = affine_of(self.norm_out, hidden_states, None)
        return convolve_activated(self.conv_out, hidden_states, affine, F.silu, stream)


class CogVideoXDecoder3D(nn.Module):
    """Latents to pixels."""

    def __init__(self, config: Config, time_halvings: int) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        # Configurations list the blocks from pixels to latents; the decoder goes the other way.
        widths = [config.block_out_channels[-1], *reversed(config.block_out_channels)]
        samplers = [*(CogVideoXUpsample3D(width, i < time_halvings) for i, width in enumerate(widths[1:-1])), None]
        num_layers, latent_channels = config.layers_per_block + 1, config.latent_channels
        self.conv_in = CausalConv3d(latent_channels, widths[0])
        self.mid_block = CogVideoXLevel3D(resnets([widths[0]] * 3, config, latent_channels))
        self.up_blocks = module_list(
            CogVideoXLevel3D(resnets([before, *[width] * num_layers], config, latent_channels), upsampler=sampler)
            for (before, width), sampler in zip(pairwise(widths), samplers, strict=True)
        )
        self.norm_out = CogVideoXSpatialNorm3D(widths[-1], latent_channels, config.norm_num_groups)
        self.conv_out = CausalConv3d(widths[-1], config.out_channels)

    def forward(
        self,
        latents: Tensor,  # (batch, latent_channels, latent frames, latent height, latent width)
        stream: FrameStream | None = None,
    ) -> Tensor:  # (batch, out_channels, frames, height, width)
        latents = channels_last(latents)
        hidden_states = self.conv_in(latents, stream)
        blocks = [self.mid_block, *self.up_blocks]
        hidden_states = run_blocks(blocks, hidden_states, latents, stream, self.gradient_checkpointing)
        affine = affine_of(self.norm_out, hidden_states, latents)
        return convolve_activated(self.conv_out, hidden_states, affine, F.silu, stream)
