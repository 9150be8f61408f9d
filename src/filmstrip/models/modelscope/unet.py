"""The U-Net of ModelScope's text to video and of zeroscope (arXiv:2308.06571)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.nn.activations import ACTIVATIONS
from filmstrip.nn.embeddings import ConditionedEmbedding, sinusoidal_embedding
from filmstrip.nn.unet import Conditions
from filmstrip.nn.video_unet import DOWN_BLOCKS, UP_BLOCKS, Layers, VideoUNet
from filmstrip.outputs import SampleOutput


class UNet3DConditionModel(VideoUNet):
    """Predicts noise or v of video latents from their noisy state, the timestep and a prompt.

    Args: those of the published `config.json`. `attention_head_dim` is the width of a head, as its name says.
    """

    fixed_settings: ClassVar[Mapping[str, Any]] = {"num_attention_heads": None}

    def __init__(
        self,
        sample_size: int | Sequence[int] | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
        down_block_types: Sequence[str] = (*[DOWN_BLOCKS[0]] * 3, DOWN_BLOCKS[1]),
        up_block_types: Sequence[str] = (UP_BLOCKS[1], *[UP_BLOCKS[0]] * 3),
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        downsample_padding: int = 1,
        mid_block_scale_factor: float = 1,
        act_fn: str = "silu",
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 1024,
        attention_head_dim: int = 64,
        time_cond_proj_dim: int | None = None,
    ) -> None:
        super().__init__()
        width = block_out_channels[0]
        self.time_embedding = ConditionedEmbedding(width, 4 * width, ACTIVATIONS[act_fn], time_cond_proj_dim)
        self.build(
            Layers(4 * width, cross_attention_dim, attention_head_dim, norm_num_groups, norm_eps, act_fn),
            in_channels,
            out_channels,
            block_out_channels,
            layers_per_block,
            down_block_types,
            up_block_types,
            downsample_padding,
            mid_block_scale_factor,
        )

    def forward(
        self,
        sample: Tensor,  # (batch, in_channels, frames, height, width)
        timestep: Tensor | float,  # one, or (batch,)
        encoder_hidden_states: Tensor,  # (batch, prompt_tokens, cross_attention_dim)
        class_labels: Tensor | None = None,
        timestep_cond: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        down_block_additional_residuals: Sequence[Tensor] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        return_dict: bool = True,
    ) -> SampleOutput | tuple[Tensor]:  # (batch, out_channels, frames, height, width)
        """Predict noise or v, whichever the checkpoint's scheduler expects.

        Args:
            timestep_cond: (batch, time_cond_proj_dim), added to the timestep's waves.
            cross_attention_kwargs: handed to the processors of all attention layers.
            down_block_additional_residuals, mid_block_additional_residual: added to the skips and to the middle, each
                (batch * frames, channels, height, width) of its level.

        Raises:
            ValueError: class_labels or attention_mask is given, which have no effect on this network.
        """
        for name, value in (("class_labels", class_labels), ("attention_mask", attention_mask)):
            if value is not None:
                raise ValueError(f"{name} has no effect on this network; drop it.")
        num_frames = sample.shape[2]
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        # Waves are computed in float32: neighbouring timesteps would coincide in half precision.
        waves = sinusoidal_embedding(timesteps, self.config.block_out_channels[0]).to(sample.dtype)
        temb = self.time_embedding(waves, timestep_cond).repeat_interleave(num_frames, 0)  # (batch * frames, ...)
        given = Conditions(
            temb,
            encoder_hidden_states,
            cross_attention_kwargs=cross_attention_kwargs or {},
            num_frames=num_frames,
        )
        predicted = self.predicted(sample, given, down_block_additional_residuals, mid_block_additional_residual)
        return SampleOutput(predicted) if return_dict else (predicted,)
