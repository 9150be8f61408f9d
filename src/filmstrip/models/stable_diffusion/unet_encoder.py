"""The half of Stable Diffusion's U-Net that ControlNet copies (arXiv:2302.05543): embeddings, way down and middle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.json_files import shown
from filmstrip.network import Model
from filmstrip.nn.activations import ACTIVATIONS
from filmstrip.nn.attention_layers import AttentionModel
from filmstrip.nn.embeddings import ConditionedEmbedding, TwoLayers, sinusoidal_embedding
from filmstrip.nn.feed_forward import ForwardChunking
from filmstrip.nn.modules import module_list
from filmstrip.nn.resnet import Downsample2D, ResnetBlock2D
from filmstrip.nn.spatial_transformer import SpatialTransformer
from filmstrip.nn.unet import (
    Call,
    Conditions,
    DownBlock,
    MidBlock,
    Widths,
    check_blocks,
    down_widths,
    per_level,
)

DOWN_BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D")
MID_BLOCK = "UNetMidBlock2DCrossAttn"
# A score that softmax turns into nothing, also in half precision.
HIDDEN = -10000.0

CALLS: dict[str, Call] = {
    "resnets": lambda resnet, hidden_states, given: resnet(hidden_states, given.temb),
    "attentions": lambda attention, hidden_states, given: attention(hidden_states, given),
}


@dataclass(frozen=True)
class LevelSettings:
    """What the parts of one resolution are built with."""

    config: Config
    heads: int
    cross_attention_dim: int
    num_transformer_layers: int
    only_cross_attention: bool

    def resnet(self, in_channels: int, out_channels: int, scale_factor: float = 1.0) -> ResnetBlock2D:
        """A residual block that sees the timestep."""
        config = self.config
        return ResnetBlock2D(
            in_channels,
            out_channels,
            4 * config.block_out_channels[0],
            config.norm_num_groups,
            config.norm_eps,
            act_fn=config.act_fn,
            time_embedding_norm=config.resnet_time_scale_shift,
            output_scale_factor=scale_factor,
        )

    def attention(self, channels: int) -> SpatialTransformer:
        """Attention of positions to each other and to the prompt."""
        return SpatialTransformer(
            channels,
            self.heads,
            channels // self.heads,
            self.num_transformer_layers,
            self.cross_attention_dim,
            groups=self.config.norm_num_groups,
            use_linear_projection=self.config.use_linear_projection,
            only_cross_attention=self.only_cross_attention,
        )

    def columns(self, widths: Widths, num_rows: int, has_attention: bool) -> dict[str, list[nn.Module]]:
        """The parts of a block."""
        columns: dict[str, list[nn.Module]] = {
            "resnets": [self.resnet(inputs, widths.out_channels) for inputs in widths.row_inputs(num_rows)]
        }
        if has_attention:
            columns["attentions"] = [self.attention(widths.out_channels) for _ in range(num_rows)]
        return columns


class UNetEncoder(AttentionModel, ForwardChunking, Model):
    """Embeddings, the way down and the middle, from the arguments of a U-Net's `config.json`."""

    _supports_gradient_checkpointing = True
    keep_precise = (
        "norm",
        "^conv_in$",
        "^conv_out$",
        "^time_embedding",
        "^add_embedding",
        "time_emb_proj",
        "^controlnet_",
    )
    # `upcast_attention` is not among them: scores are in float32 whatever it says.
    fixed_settings: ClassVar[Mapping[str, Any]] = {
        "attention_type": "default",
        "class_embed_type": None,
        "class_embeddings_concat": False,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "cross_attention_norm": None,
        "dual_cross_attention": False,
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "num_class_embeds": None,
        "resnet_out_scale_factor": 1.0,
        "resnet_skip_time_act": False,
        "reverse_transformer_layers_per_block": None,
        "time_embedding_act_fn": None,
        "time_embedding_dim": None,
        "time_embedding_type": "positional",
        "timestep_post_act": None,
    }

    def build_encoder(self, config: Config) -> list[LevelSettings]:
        """Make the parts; the settings of each resolution are returned."""
        widths = config.block_out_channels
        num_levels = len(widths)
        check_blocks("down_block_types", config.down_block_types, DOWN_BLOCKS, num_levels)
        if config.mid_block_type != MID_BLOCK:
            raise ValueError(f"mid_block_type must be {MID_BLOCK!r}, got {shown(config.mid_block_type)}.")
        temb_channels = 4 * widths[0]
        activation = ACTIVATIONS[config.act_fn]
        self.time_embedding = ConditionedEmbedding(
            widths[0], temb_channels, activation, config.get("time_cond_proj_dim")
        )
        self.add_embedding: TwoLayers | None = None
        if config.addition_embed_type == "text_time":
            self.add_embedding = TwoLayers(config.projection_class_embeddings_input_dim, temb_channels, F.silu)
        elif config.addition_embed_type is not None:
            raise ValueError(
                f"addition_embed_type must be 'text_time' or None, got {shown(config.addition_embed_type)}."
            )

        names = ("attention_head_dim", "cross_attention_dim", "transformer_layers_per_block", "only_cross_attention")
        chosen = [per_level(name, config[name], num_levels) for name in names]
        levels = [LevelSettings(config, *settings) for settings in zip(*chosen, strict=True)]
        num_layers = per_level("layers_per_block", config.layers_per_block, num_levels)
        self.down_blocks = module_list(
            DownBlock(
                levels[block.level].columns(
                    block, num_layers[block.level], config.down_block_types[block.level] == DOWN_BLOCKS[0]
                ),
                CALLS,
                None
                if block.is_last
                else Downsample2D(block.out_channels, block.out_channels, config.downsample_padding),
            )
            for block in down_widths(widths)
        )
        width = widths[-1]
        deepest = replace(levels[-1], only_cross_attention=False)
        self.mid_block = MidBlock(
            {
                "resnets": [deepest.resnet(width, width, config.mid_block_scale_factor) for _ in range(2)],
                "attentions": [deepest.attention(width)],
            },
            CALLS,
            ends=("resnets",),
        )
        return levels

    def conditions(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        *,
        class_labels: Tensor | None = None,
        timestep_cond: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
    ) -> Conditions:
        """What the parts are given beside the stream."""
        if class_labels is not None:
            raise ValueError("class_labels has no effect on this network; drop it.")
        config, dtype = self.config, sample.dtype
        order = {"flip_sin_to_cos": config.flip_sin_to_cos, "freq_shift": config.freq_shift}
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        # Waves are computed in float32: neighbouring timesteps would coincide in half precision.
        waves = sinusoidal_embedding(timesteps, config.block_out_channels[0], **order).to(dtype)
        temb = self.time_embedding(waves, timestep_cond)
        if self.add_embedding is not None:
            temb = temb + self.add_embedding(self._added(added_cond_kwargs, order).to(dtype))
        return Conditions(
            temb,
            encoder_hidden_states,
            _score_bias(attention_mask, dtype),
            _score_bias(encoder_attention_mask, dtype),
            cross_attention_kwargs or {},
        )

    def _added(self, given: Mapping[str, Tensor] | None, order: dict[str, Any]) -> Tensor:
        """Pooled prompt and sizes of SDXL (arXiv:2307.01952, section 2.2), (batch, projection input)."""
        if given is None or "text_embeds" not in given or "time_ids" not in given:
            raise ValueError("this network needs added_cond_kwargs with text_embeds and time_ids.")
        text_embeds, time_ids = given["text_embeds"], given["time_ids"]
        waves = sinusoidal_embedding(time_ids.flatten(), self.config.addition_time_embed_dim, **order)
        return torch.cat([text_embeds.float(), waves.view(len(text_embeds), -1)], dim=-1)


def _score_bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """(batch, tokens), where 1 is kept and 0 hidden, as (batch, 1, tokens) to be added to scores."""
    return None if mask is None else ((1 - mask.to(dtype)) * HIDDEN)[:, None]
