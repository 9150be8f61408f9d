"""A U-Net of videos whose blocks have, between the layers of an image U-Net, layers along time (arXiv:2308.06571).

Its frames are pictures for all layers but those along time, and lie one after the other in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.network import Model
from filmstrip.nn.attention_layers import AttentionModel
from filmstrip.nn.feed_forward import ForwardChunking
from filmstrip.nn.free_u import FreeUSwitch
from filmstrip.nn.modules import module_list, weights_channels_last
from filmstrip.nn.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from filmstrip.nn.spatial_transformer import SpatialTransformer
from filmstrip.nn.temporal import TEMPORAL_CALLS, TemporalConvLayer, TemporalTransformer, as_frames, as_videos
from filmstrip.nn.unet import (
    Call,
    Conditions,
    DownBlock,
    MidBlock,
    UpBlock,
    Widths,
    check_blocks,
    down_widths,
    run_all,
    up_widths,
)

DOWN_BLOCKS = ("CrossAttnDownBlock3D", "DownBlock3D")
UP_BLOCKS = ("CrossAttnUpBlock3D", "UpBlock3D")
# Of the values of a convolution along time, in training.
DROPOUT = 0.1

CALLS: dict[str, Call] = {
    "resnets": lambda resnet, hidden_states, given: resnet(hidden_states, given.temb),
    "attentions": lambda attention, hidden_states, given: attention(hidden_states, given),
    **TEMPORAL_CALLS,
}


@dataclass(frozen=True)
class Layers:
    """What the layers of a video U-Net are built with."""

    temb_channels: int
    cross_attention_dim: int
    head_dim: int
    groups: int
    eps: float = 1e-5
    act_fn: str = "silu"

    def columns(self, inputs: Sequence[int], channels: int, num_attentions: int, scale: float = 1.0) -> dict[str, Any]:
        """The parts of a block.

        Args:
            inputs: channels that go into each residual block.
            num_attentions: as many as there are residual blocks, one less, or none.
            scale: what the sum of both branches of a residual block is divided by.
        """
        columns: dict[str, Any] = {"resnets": [self._resnet(one, channels, scale) for one in inputs]}
        columns["temp_convs"] = [TemporalConvLayer(channels, self.groups, DROPOUT) for _ in inputs]
        if num_attentions:
            heads = channels // self.head_dim, self.head_dim
            columns["attentions"] = [
                SpatialTransformer(
                    channels, *heads, 1, self.cross_attention_dim, groups=self.groups, use_linear_projection=True
                )
                for _ in range(num_attentions)
            ]
            columns["temp_attentions"] = [
                TemporalTransformer(channels, *heads, groups=self.groups) for _ in range(num_attentions)
            ]
        return columns

    def _resnet(self, in_channels: int, out_channels: int, scale: float) -> ResnetBlock2D:
        settings = {"act_fn": self.act_fn, "output_scale_factor": scale}
        return ResnetBlock2D(in_channels, out_channels, self.temb_channels, self.groups, self.eps, **settings)  # type: ignore[arg-type]


class VideoUNet(FreeUSwitch, AttentionModel, ForwardChunking, Model):
    """Blocks with layers along time; a family's network has embeddings of its own in front of them."""

    _supports_gradient_checkpointing = True
    keep_precise: ClassVar[tuple[str, ...]] = ("norm", "^conv_in$", "^conv_out$", "^time_embedding", "time_emb_proj")

    def build(
        self,
        layers: Layers,
        in_channels: int,
        out_channels: int,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        down_block_types: Sequence[str],
        up_block_types: Sequence[str],
        downsample_padding: int = 1,
        mid_block_scale_factor: float = 1.0,
    ) -> None:
        """Make the parts from the first convolution to the last."""
        num_levels, width = len(block_out_channels), block_out_channels[0]
        check_blocks("down_block_types", down_block_types, DOWN_BLOCKS, num_levels)
        check_blocks("up_block_types", up_block_types, UP_BLOCKS, num_levels)
        if narrow := [one for one in block_out_channels if one < layers.head_dim]:
            raise ValueError(f"attention_head_dim ({layers.head_dim}) is wider than a block of {narrow[0]} channels.")
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        self.transformer_in = TemporalTransformer(width, 8, layers.head_dim, groups=layers.groups)

        def columns(block: Widths, num_rows: int, block_type: str) -> dict[str, Any]:
            attentions = num_rows if block_type.startswith("CrossAttn") else 0
            return layers.columns(block.row_inputs(num_rows), block.out_channels, attentions)

        self.down_blocks = module_list(
            DownBlock(
                columns(block, layers_per_block, down_block_types[block.level]),
                CALLS,
                None if block.is_last else Downsample2D(block.out_channels, block.out_channels, downsample_padding),
            )
            for block in down_widths(block_out_channels)
        )
        deepest = block_out_channels[-1]
        middle = layers.columns([deepest] * 2, deepest, 1, mid_block_scale_factor)
        self.mid_block = MidBlock(middle, CALLS, ends=("resnets", "temp_convs"))
        self.up_blocks = module_list(
            UpBlock(
                columns(block, layers_per_block + 1, up_block_types[block.level]),
                CALLS,
                None if block.is_last else Upsample2D(block.out_channels, block.out_channels),
            )
            for block in up_widths(block_out_channels, [layers_per_block] * num_levels)
        )
        self.conv_norm_out = nn.GroupNorm(layers.groups, width, layers.eps)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)
        weights_channels_last(self)

    def predicted(
        self,
        sample: Tensor,  # (batch, in_channels, frames, height, width)
        given: Conditions,
        down_residuals: Sequence[Tensor] | None = None,  # each (batch * frames, channels, ...)
        mid_residual: Tensor | None = None,
    ) -> Tensor:  # (batch, out_channels, frames, height, width)
        """What the blocks make of noisy latents.

        Args:
            down_residuals, mid_residual: added to the skips and to the middle.
        """
        frames = as_frames(sample).contiguous(memory_format=torch.channels_last)
        hidden_states = self.transformer_in(self.conv_in(frames), given)
        hidden_states = run_all(self, hidden_states, given, down_residuals, mid_residual, self.free_u)
        predicted = self.conv_out(F.silu(self.conv_norm_out(hidden_states)))
        return as_videos(predicted, given.num_frames)
