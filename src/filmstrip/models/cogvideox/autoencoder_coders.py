"""Encoder and decoder of CogVideoX's autoencoder; each turns one chunk of a video, and keeps its past in a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.kernels.layout import channels_last
from filmstrip.models.cogvideox.autoencoder_blocks import (
    CogVideoXDownBlock3D,
    CogVideoXMidBlock3D,
    CogVideoXSpatialNorm3D,
    CogVideoXUpBlock3D,
    affine_of,
    convolve_activated,
)
from filmstrip.nn.causal_conv import CausalConv3d
from filmstrip.nn.modules import module_list
from filmstrip.nn.recomputing import recomputed
from filmstrip.nn.streaming import FrameStream

NORM_OUT_EPS = 1e-6

Block = Callable[[Tensor, FrameStream | None], Tensor]


def run_blocks(
    blocks: Sequence[Block], hidden_states: Tensor, stream: FrameStream | None, is_recomputing: bool
) -> Tensor:
    """What a chain of blocks makes of a chunk, perhaps computed again in the backward pass."""
    for block in blocks:
        if is_recomputing and torch.is_grad_enabled():
            # The second time, the block must find the stream as it was the first time: `before` stays as it is.
            before = None if stream is None else stream.fork()
            hidden_states, after = recomputed(_from_a_copy, block, hidden_states, before)
            if stream is not None and after is not None:
                stream.adopt(after)
        else:
            hidden_states = block(hidden_states, stream)
    return hidden_states


def _from_a_copy(block: Block, hidden_states: Tensor, stream: FrameStream | None) -> tuple[Tensor, FrameStream | None]:
    after = None if stream is None else stream.fork()
    return block(hidden_states, after), after


class CogVideoXEncoder3D(nn.Module):
    """Pixels to the moments of the latents."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        act_fn: str,
        norm_eps: float,
        norm_num_groups: int,
        time_halvings: int,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        widths = [block_out_channels[0], *block_out_channels]
        self.conv_in = CausalConv3d(in_channels, widths[0])
        self.down_blocks = module_list(
            CogVideoXDownBlock3D(
                in_channels=widths[i],
                out_channels=widths[i + 1],
                num_layers=layers_per_block,
                groups=norm_num_groups,
                eps=norm_eps,
                act_fn=act_fn,
                downsamples=i + 1 < len(block_out_channels),
                compress_time=i < time_halvings,
            )
            for i in range(len(block_out_channels))
        )
        self.mid_block = CogVideoXMidBlock3D(widths[-1], norm_num_groups, norm_eps, act_fn)
        self.norm_out = nn.GroupNorm(norm_num_groups, widths[-1], NORM_OUT_EPS)
        self.conv_out = CausalConv3d(widths[-1], 2 * out_channels)

    def forward(
        self,
        video: Tensor,  # (batch, in_channels, frames, height, width)
        stream: FrameStream | None = None,
    ) -> Tensor:  # (batch, 2 * out_channels, latent frames, latent height, latent width)
        hidden_states = self.conv_in(channels_last(video), stream)

        def middle(hidden_states: Tensor, stream: FrameStream | None) -> Tensor:
            return self.mid_block(hidden_states, None, stream)

        hidden_states = run_blocks([*self.down_blocks, middle], hidden_states, stream, self.gradient_checkpointing)
        return convolve_activated(
            self.conv_out, hidden_states, affine_of(self.norm_out, hidden_states, None), F.silu, stream
        )


class CogVideoXDecoder3D(nn.Module):
    """Latents to pixels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        act_fn: str,
        norm_eps: float,
        norm_num_groups: int,
        time_halvings: int,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        # Configurations list the blocks from pixels to latents; the decoder goes the other way.
        widths = [block_out_channels[-1], *reversed(block_out_channels)]
        self.conv_in = CausalConv3d(in_channels, widths[0])
        self.mid_block = CogVideoXMidBlock3D(widths[0], norm_num_groups, norm_eps, act_fn, in_channels)
        self.up_blocks = module_list(
            CogVideoXUpBlock3D(
                in_channels=widths[i],
                out_channels=widths[i + 1],
                num_layers=layers_per_block + 1,
                groups=norm_num_groups,
                eps=norm_eps,
                act_fn=act_fn,
                spatial_norm_dim=in_channels,
                upsamples=i + 1 < len(block_out_channels),
                compress_time=i < time_halvings,
            )
            for i in range(len(block_out_channels))
        )
        self.norm_out = CogVideoXSpatialNorm3D(widths[-1], in_channels, norm_num_groups)
        self.conv_out = CausalConv3d(widths[-1], out_channels)

    def forward(
        self,
        latents: Tensor,  # (batch, in_channels, latent frames, latent height, latent width)
        stream: FrameStream | None = None,
    ) -> Tensor:  # (batch, out_channels, frames, height, width)
        latents = channels_last(latents)
        hidden_states = self.conv_in(latents, stream)
        blocks = [_conditioned(block, latents) for block in (self.mid_block, *self.up_blocks)]
        hidden_states = run_blocks(blocks, hidden_states, stream, self.gradient_checkpointing)
        return convolve_activated(
            self.conv_out, hidden_states, affine_of(self.norm_out, hidden_states, latents), F.silu, stream
        )


def _conditioned(block: nn.Module, latents: Tensor) -> Block:
    def run(hidden_states: Tensor, stream: FrameStream | None) -> Tensor:
        conditioned: Tensor = block(hidden_states, latents, stream)
        return conditioned

    return run
