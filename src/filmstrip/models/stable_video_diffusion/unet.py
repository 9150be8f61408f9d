"""The U-Net of Stable Video Diffusion (arXiv:2311.15127): Stable Diffusion's, with layers over time in every block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.models.stable_video_diffusion.attention import SpatioTemporalTransformer
from filmstrip.models.stable_video_diffusion.temporal import GROUPS, SpatioTemporalResBlock, TimeMixer
from filmstrip.network import Model
from filmstrip.nn.attention_layers import AttentionModel
from filmstrip.nn.embeddings import TwoLayers, sinusoidal_embedding
from filmstrip.nn.feed_forward import ForwardChunking
from filmstrip.nn.modules import module_list, weights_channels_last
from filmstrip.nn.resnet import Downsample2D, Upsample2D
from filmstrip.nn.unet import (
    Call,
    Conditions,
    DownBlock,
    MidBlock,
    UpBlock,
    Widths,
    check_blocks,
    down_widths,
    per_level,
    run_all,
    up_widths,
)
from filmstrip.outputs import SampleOutput

DOWN_BLOCKS = ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal")
UP_BLOCKS = ("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal")
# As published networks were made into these: 1e-6 where there is attention, and on the way up.
EPS, EPS_WITH_ATTENTION = 1e-5, 1e-6

CALLS: dict[str, Call] = {
    "resnets": lambda resnet, hidden_states, given: resnet(hidden_states, given.num_frames, given.temb),
    "attentions": lambda attention, hidden_states, given: attention(hidden_states, given),
}


class UNetSpatioTemporalConditionModel(AttentionModel, ForwardChunking, Model):
    """Predicts v of the latents of a video from their noisy state, the latents of a picture and three numbers.

    Args: those of the published `config.json`. Widths are multiples of 32, and of the heads of their level.
    """

    _supports_gradient_checkpointing = True
    keep_precise = (
        "norm",
        "^conv_in$",
        "^conv_out$",
        "^time_embedding",
        "^add_embedding",
        "time_emb_proj",
        "time_pos_embed",
    )
    fixed_settings: ClassVar[Mapping[str, Any]] = {"center_input_sample": False, "flip_sin_to_cos": True}

    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 8,
        out_channels: int = 4,
        down_block_types: Sequence[str] = (*[DOWN_BLOCKS[0]] * 3, DOWN_BLOCKS[1]),
        up_block_types: Sequence[str] = (UP_BLOCKS[1], *[UP_BLOCKS[0]] * 3),
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        addition_time_embed_dim: int = 256,
        projection_class_embeddings_input_dim: int = 768,
        layers_per_block: int | Sequence[int] = 2,
        cross_attention_dim: int | Sequence[int] = 1024,
        transformer_layers_per_block: int | Sequence[int] = 1,
        num_attention_heads: int | Sequence[int] = (5, 10, 20, 20),
        num_frames: int = 25,
    ) -> None:
        super().__init__()
        widths, num_levels = block_out_channels, len(block_out_channels)
        check_blocks("down_block_types", down_block_types, DOWN_BLOCKS, num_levels)
        check_blocks("up_block_types", up_block_types, UP_BLOCKS, num_levels)
        self.temb_channels = 4 * widths[0]
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.time_embedding = TwoLayers(widths[0], self.temb_channels, F.silu)
        self.add_embedding = TwoLayers(projection_class_embeddings_input_dim, self.temb_channels, F.silu)
        num_layers = per_level("layers_per_block", layers_per_block, num_levels)
        self.down_blocks = module_list(
            DownBlock(
                self._columns(
                    block,
                    num_layers[block.level],
                    block.level if (attends := down_block_types[block.level] == DOWN_BLOCKS[0]) else None,
                    EPS_WITH_ATTENTION if attends else EPS,
                ),
                CALLS,
                None if block.is_last else Downsample2D(block.out_channels, block.out_channels),
            )
            for block in down_widths(widths)
        )
        self.mid_block = MidBlock(
            {
                "resnets": [self._resnet(widths[-1], widths[-1], EPS) for _ in range(2)],
                "attentions": [self._attention(num_levels - 1, widths[-1])],
            },
            CALLS,
            ends=("resnets",),
        )
        num_layers = num_layers[::-1]
        self.up_blocks = module_list(
            UpBlock(
                self._columns(
                    block,
                    num_layers[block.level] + 1,
                    num_levels - 1 - block.level if up_block_types[block.level] == UP_BLOCKS[0] else None,
                    EPS_WITH_ATTENTION,
                ),
                CALLS,
                None if block.is_last else Upsample2D(block.out_channels, block.out_channels),
            )
            for block in up_widths(widths, num_layers)
        )
        self.conv_norm_out = nn.GroupNorm(GROUPS, widths[0], 1e-5)
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)
        weights_channels_last(self)

    def _columns(self, widths: Widths, num_rows: int, level: int | None, eps: float) -> dict[str, list[nn.Module]]:
        """The parts of a block; with attention, of that level, if there is one."""
        resnets: list[nn.Module] = [
            self._resnet(inputs, widths.out_channels, eps) for inputs in widths.row_inputs(num_rows)
        ]
        if level is None:
            return {"resnets": resnets}
        attentions: list[nn.Module] = [self._attention(level, widths.out_channels) for _ in range(num_rows)]
        return {"resnets": resnets, "attentions": attentions}

    def _resnet(self, in_channels: int, out_channels: int, eps: float) -> SpatioTemporalResBlock:
        return SpatioTemporalResBlock(
            in_channels,
            out_channels,
            self.temb_channels,
            eps=eps,
            temporal_eps=eps,
            mixer=TimeMixer(0.5, of_time=False),
        )

    def _attention(self, level: int, channels: int) -> SpatioTemporalTransformer:
        config, num_levels = self.config, len(self.config.block_out_channels)
        names = ("num_attention_heads", "transformer_layers_per_block", "cross_attention_dim")
        heads, num_layers, dim = (per_level(name, config[name], num_levels)[level] for name in names)
        return SpatioTemporalTransformer(channels, heads, channels // heads, num_layers, dim)

    def forward(
        self,
        sample: Tensor,  # (batch, frames, in_channels, height, width)
        timestep: Tensor | float,  # one, or (batch,)
        encoder_hidden_states: Tensor,  # (batch, tokens, cross_attention_dim)
        added_time_ids: Tensor,  # (batch, numbers)
        return_dict: bool = True,
    ) -> SampleOutput | tuple[Tensor]:  # (batch, frames, out_channels, height, width)
        """Predict v.

        Args:
            sample: noisy latents and those of the picture, frame by frame one after the other in the channels.
            encoder_hidden_states: what is attended to; an embedded picture is one token.
            added_time_ids: the frame rate less 1, the motion bucket, and the noise that was added to the picture.
        """
        num_frames, dtype = sample.shape[1], sample.dtype
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        temb = self._embedded(timesteps, added_time_ids, dtype)
        given = Conditions(
            temb.repeat_interleave(num_frames, 0),
            encoder_hidden_states.repeat_interleave(num_frames, 0),
            num_frames=num_frames,
        )
        pictures = sample.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        hidden_states = run_all(self, self.conv_in(pictures), given)
        pictures = self.conv_out(F.silu(self.conv_norm_out(hidden_states)))
        sample = pictures.unflatten(0, (-1, num_frames))
        return SampleOutput(sample) if return_dict else (sample,)

    def _embedded(self, timesteps: Tensor, added_time_ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Timesteps and the other numbers, (batch, temb_channels)."""
        # Waves are computed in float32: neighbouring values would coincide in half precision.
        waves = sinusoidal_embedding(timesteps, self.time_embedding.linear_1.in_features).to(dtype)
        more = sinusoidal_embedding(added_time_ids.flatten(), self.config.addition_time_embed_dim)
        more = more.view(len(added_time_ids), -1).to(dtype)
        if more.shape[1] != (takes := self.add_embedding.linear_1.in_features):
            numbers = takes // self.config.addition_time_embed_dim
            raise ValueError(f"added_time_ids must have {numbers} numbers in a row, got {added_time_ids.shape[1]}.")
        embedded: Tensor = self.time_embedding(waves) + self.add_embedding(more)
        return embedded
