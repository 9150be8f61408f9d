"""ControlNet (arXiv:2302.05543): a copy of the U-Net's first half that turns a control picture into residuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.json_files import shown
from filmstrip.models.stable_diffusion.unet_encoder import DOWN_BLOCKS, MID_BLOCK, UNetEncoder
from filmstrip.nn.modules import weights_channels_last
from filmstrip.nn.unet import down_widths, per_level, run_down
from filmstrip.outputs import Output


@dataclass
class ControlNetOutput(Output):
    """What a U-Net adds to its skips and to its middle."""

    down_block_res_samples: tuple[Tensor, ...]
    mid_block_res_sample: Tensor


class ControlNetConditioningEmbedding(nn.Module):
    """A control picture brought to the size and width of the stream that it is added to."""

    def __init__(self, out_channels: int, in_channels: int, block_out_channels: Sequence[int]) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, block_out_channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for width, next_width in pairwise(block_out_channels):
            self.blocks.append(nn.Conv2d(width, width, 3, padding=1))
            self.blocks.append(nn.Conv2d(width, next_width, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(block_out_channels[-1], out_channels, 3, padding=1)

    def forward(
        self,
        conditioning: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:  # (batch, out_channels, height / 8, width / 8) for four widths
        embedded = F.silu(self.conv_in(conditioning))
        for block in self.blocks:
            embedded = F.silu(block(embedded))
        return self.conv_out(embedded)


class ControlNetModel(UNetEncoder):
    """Residuals for a U-Net from a control picture, the noisy latents, the timestep and a prompt.

    Args: those of the published `config.json`; most are the U-Net's.
        conditioning_embedding_out_channels: widths on the control picture's way down to the latents' size.
        controlnet_conditioning_channel_order: "rgb", or "bgr" if the picture's channels are to be turned round.
        global_pool_conditions: residuals are averaged over all positions.
    """

    def __init__(
        self,
        in_channels: int = 4,
        conditioning_channels: int = 3,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        down_block_types: Sequence[str] = (*[DOWN_BLOCKS[0]] * 3, DOWN_BLOCKS[1]),
        mid_block_type: str = MID_BLOCK,
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
        projection_class_embeddings_input_dim: int | None = None,
        controlnet_conditioning_channel_order: str = "rgb",
        conditioning_embedding_out_channels: Sequence[int] = (16, 32, 96, 256),
        global_pool_conditions: bool = False,
    ) -> None:
        super().__init__()
        if controlnet_conditioning_channel_order not in ("rgb", "bgr"):
            order = controlnet_conditioning_channel_order
            raise ValueError(f"controlnet_conditioning_channel_order must be 'rgb' or 'bgr', got {shown(order)}.")
        first, last = block_out_channels[0], block_out_channels[-1]
        self.conv_in = nn.Conv2d(in_channels, first, 3, padding=1)
        self.build_encoder(self.config)
        self.controlnet_cond_embedding = ControlNetConditioningEmbedding(
            first, conditioning_channels, conditioning_embedding_out_channels
        )
        num_layers = per_level("layers_per_block", layers_per_block, len(block_out_channels))
        skips = [first]
        for block in down_widths(block_out_channels):
            skips += [block.out_channels] * (num_layers[block.level] + (not block.is_last))
        self.controlnet_down_blocks = nn.ModuleList([nn.Conv2d(width, width, 1) for width in skips])
        self.controlnet_mid_block = nn.Conv2d(last, last, 1)
        weights_channels_last(self)

    def forward(
        self,
        sample: Tensor,  # (batch, in_channels, height, width)
        timestep: Tensor | float,  # one, or (batch,)
        encoder_hidden_states: Tensor,  # (batch, prompt_tokens, cross_attention_dim)
        controlnet_cond: Tensor,  # (batch, conditioning_channels, 8 * height, 8 * width), in [0, 1]
        conditioning_scale: float = 1.0,
        class_labels: Tensor | None = None,
        timestep_cond: Tensor | None = None,
        attention_mask: Tensor | None = None,
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        guess_mode: bool = False,
        return_dict: bool = True,
    ) -> ControlNetOutput | tuple[tuple[Tensor, ...], Tensor]:
        """Residuals for the skips and the middle of a U-Net.

        Args:
            conditioning_scale: what all residuals are multiplied by.
            guess_mode: residuals count less the higher their resolution (section 3.5), for runs without a prompt.
            attention_mask, added_cond_kwargs, cross_attention_kwargs, timestep_cond: as the U-Net takes them.
        """
        given = self.conditions(
            sample,
            timestep,
            encoder_hidden_states,
            class_labels=class_labels,
            timestep_cond=timestep_cond,
            attention_mask=attention_mask,
            cross_attention_kwargs=cross_attention_kwargs,
            added_cond_kwargs=added_cond_kwargs,
        )
        if self.config.controlnet_conditioning_channel_order == "bgr":
            controlnet_cond = controlnet_cond.flip(1)
        hidden_states = self.conv_in(sample) + self.controlnet_cond_embedding(controlnet_cond)
        hidden_states, skips = run_down(self.down_blocks, hidden_states, given)
        residuals = [block(skip) for block, skip in zip(self.controlnet_down_blocks, skips, strict=True)]
        residuals.append(self.controlnet_mid_block(self.mid_block(hidden_states, given)))
        scales = [conditioning_scale] * len(residuals)
        if guess_mode and not self.config.global_pool_conditions:
            scales = [scale * conditioning_scale for scale in torch.logspace(-1, 0, len(residuals)).tolist()]
        residuals = [residual * scale for residual, scale in zip(residuals, scales, strict=True)]
        if self.config.global_pool_conditions:
            residuals = [residual.mean((2, 3), keepdim=True) for residual in residuals]
        down, mid = tuple(residuals[:-1]), residuals[-1]
        return ControlNetOutput(down, mid) if return_dict else (down, mid)

    @classmethod
    def from_unet(cls, unet: UNetEncoder, **settings: Any) -> ControlNetModel:
        """A ControlNet to be trained: the U-Net's own first half, and residuals that are zero at first.

        Args:
            settings: arguments of the constructor that are not the U-Net's.
        """
        network = cls.from_config(unet.config, **settings)
        network.load_state_dict(
            {name: tensor for name, tensor in unet.state_dict().items() if name in network.state_dict()}, strict=False
        )
        for part in (*network.controlnet_down_blocks, network.controlnet_mid_block):
            for parameter in part.parameters():
                nn.init.zeros_(parameter)
        for parameter in network.controlnet_cond_embedding.conv_out.parameters():
            nn.init.zeros_(parameter)
        return network
