"""The U-Net of Stable Diffusion 1.x, 2.x and XL (arXiv:2112.10752, arXiv:2307.01952)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from filmstrip.models.stable_diffusion.unet_encoder import CALLS, DOWN_BLOCKS, MID_BLOCK, UNetEncoder
from filmstrip.nn.activations import ACTIVATIONS
from filmstrip.nn.free_u import FreeUSwitch
from filmstrip.nn.modules import module_list, weights_channels_last
from filmstrip.nn.resnet import Upsample2D
from filmstrip.nn.unet import UpBlock, check_blocks, per_level, run_all, up_widths
from filmstrip.outputs import SampleOutput

UP_BLOCKS = ("CrossAttnUpBlock2D", "UpBlock2D")


class UNet2DConditionModel(FreeUSwitch, UNetEncoder):
    """Predicts noise or v of picture latents from their noisy state, the timestep and a prompt.

    Args: those of the published `config.json` of Stable Diffusion 1.x, 2.x and XL. As there, `attention_head_dim`
        counts heads.
    """

    def __init__(
        self,
        sample_size: int | Sequence[int] | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
        center_input_sample: bool = False,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        down_block_types: Sequence[str] = (*[DOWN_BLOCKS[0]] * 3, DOWN_BLOCKS[1]),
        mid_block_type: str = MID_BLOCK,
        up_block_types: Sequence[str] = (UP_BLOCKS[1], *[UP_BLOCKS[0]] * 3),
        only_cross_attention: bool | Sequence[bool] = False,
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int | Sequence[int] = 2,
        downsample_padding: int = 1,
        mid_block_scale_factor: float = 1,
        act_fn: str = "silu",
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int | Sequence[int] = 1280,
        transformer_layers_per_block: int | Sequence[int] = 1,
        attention_head_dim: int | Sequence[int] = 8,
        use_linear_projection: bool = False,
        addition_embed_type: str | None = None,
        addition_time_embed_dim: int | None = None,
        resnet_time_scale_shift: str = "default",
        time_cond_proj_dim: int | None = None,
        projection_class_embeddings_input_dim: int | None = None,
    ) -> None:
        super().__init__()
        num_levels = len(block_out_channels)
        check_blocks("up_block_types", up_block_types, UP_BLOCKS, num_levels)
        self.conv_in = nn.Conv2d(in_channels, block_out_channels[0], 3, padding=1)
        levels = self.build_encoder(self.config)
        num_layers = per_level("layers_per_block", layers_per_block, num_levels)[::-1]
        self.up_blocks = module_list(
            UpBlock(
                levels[-1 - block.level].columns(
                    block, num_layers[block.level] + 1, up_block_types[block.level] == UP_BLOCKS[0]
                ),
                CALLS,
                None if block.is_last else Upsample2D(block.out_channels, block.out_channels),
            )
            for block in up_widths(block_out_channels, num_layers)
        )
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, block_out_channels[0], norm_eps)
        self.conv_out = nn.Conv2d(block_out_channels[0], out_channels, 3, padding=1)
        weights_channels_last(self)

    def forward(
        self,
        sample: Tensor,  # (batch, in_channels, height, width)
        timestep: Tensor | float,  # one, or (batch,)
        encoder_hidden_states: Tensor,  # (batch, prompt_tokens, cross_attention_dim)
        class_labels: Tensor | None = None,
        timestep_cond: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
        down_block_additional_residuals: Sequence[Tensor] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> SampleOutput | tuple[Tensor]:  # (batch, out_channels, height, width)
        """Predict noise or v, whichever the checkpoint's scheduler expects.

        Args:
            timestep_cond: (batch, time_cond_proj_dim), added to the timestep's waves.
            attention_mask, encoder_attention_mask: (batch, tokens) and (batch, prompt_tokens); 1 is kept, 0 hidden.
            cross_attention_kwargs: handed to the processors of all attention layers.
            added_cond_kwargs: SDXL's text_embeds, (batch, dim), and time_ids, (batch, 6).
            down_block_additional_residuals, mid_block_additional_residual: added to the skips and to the middle.
        """
        given = self.conditions(
            sample,
            timestep,
            encoder_hidden_states,
            class_labels=class_labels,
            timestep_cond=timestep_cond,
            attention_mask=attention_mask,
            encoder_attention_mask=encoder_attention_mask,
            cross_attention_kwargs=cross_attention_kwargs,
            added_cond_kwargs=added_cond_kwargs,
        )
        if self.config.center_input_sample:
            sample = 2 * sample - 1
        residuals = down_block_additional_residuals, mid_block_additional_residual
        hidden_states = run_all(self, self.conv_in(sample), given, *residuals, self.free_u)
        activation = ACTIVATIONS[self.config.act_fn]
        sample = self.conv_out(activation(self.conv_norm_out(hidden_states)))
        return SampleOutput(sample) if return_dict else (sample,)
