"""Encoder and decoder of LTX-Video's autoencoder, each a chain of stages that runs on whole videos or on streams."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.kernels.layout import channels_last
from filmstrip.models.ltx.autoencoder_blocks import (
    DecoderCondition,
    LTXVideoDownBlock3D,
    LTXVideoUpBlock3d,
    LTXVideoUpsampler3d,
    Stage,
    modulate_channels,
    pixel_norm,
)
from filmstrip.nn.causal_conv import CausalConv3d, depth_to_space, space_to_depth
from filmstrip.nn.embeddings import CombinedTimestepEmbedding
from filmstrip.nn.modules import module_list
from filmstrip.nn.recomputing import recomputed
from filmstrip.nn.streaming import FrameStream
from filmstrip.randomness import Generators

DOWN_BLOCKS = ("LTXVideoDownBlock3D", "LTXVideo095DownBlock3D")


def patchify(video: Tensor, patch_size_t: int, patch_size: int) -> Tensor:
    """Patches folded into channels; within a patch, columns come before rows."""
    return space_to_depth(video.transpose(3, 4), (patch_size_t, patch_size, patch_size)).transpose(3, 4)


def unpatchify(patches: Tensor, patch_size_t: int, patch_size: int) -> Tensor:
    """The inverse of `patchify`."""
    return depth_to_space(patches.transpose(3, 4), (patch_size_t, patch_size, patch_size)).transpose(3, 4)


def run_whole(stages: Sequence[Stage], hidden_states: Tensor, is_recomputing: bool = False) -> Tensor:
    """What a chain of stages makes of a whole video."""
    is_recomputing = is_recomputing and torch.is_grad_enabled()
    for stage in stages:
        hidden_states = recomputed(stage, hidden_states, None) if is_recomputing else stage(hidden_states, None)
    return hidden_states


class LTXVideoEncoder3d(nn.Module):
    """Pixels to the moments of the latents."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.patch_size, self.patch_size_t = config.patch_size, config.patch_size_t
        self.gradient_checkpointing = False
        widths, types, layers = config.block_out_channels, config.down_block_types, config.layers_per_block
        width, is_causal = widths[0], config.encoder_causal
        self.conv_in = CausalConv3d(config.in_channels * config.patch_size**2, width, is_causal=is_causal)

        # 0.9.5 lists one width more than it has blocks; before, the last block keeps the last width.
        num_blocks = len(widths) - (types[-1] == DOWN_BLOCKS[1])
        down_blocks = []
        for i in range(num_blocks):
            if types[i] not in DOWN_BLOCKS:
                raise ValueError(f"Each of down_block_types is {' or '.join(DOWN_BLOCKS)}, got {types[i]!r}.")
            next_width = widths[min(i + 1, len(widths) - 1)]
            downsample_type = config.downsample_type[i] if types[i] == DOWN_BLOCKS[1] else None
            downsamples = config.spatio_temporal_scaling[i]
            down_blocks.append(LTXVideoDownBlock3D(width, next_width, layers[i], config, downsamples, downsample_type))
            width = next_width
        self.down_blocks = module_list(down_blocks)

        self.mid_block = LTXVideoDownBlock3D(width, width, layers[-1], config)
        self.conv_out = CausalConv3d(width, config.latent_channels + 1, is_causal=is_causal)

    def stages(self) -> list[Stage]:
        """From pixels to moments, in order."""
        stages: list[Stage] = [self._enter]
        for block in self.down_blocks:
            stages += block.stages()
        return [*stages, *self.mid_block.stages(), self._leave]

    def forward(
        self,
        video: Tensor,  # (batch, in_channels, frames, height, width)
    ) -> Tensor:  # (batch, 2 * latent_channels, latent frames, latent height, latent width)
        return run_whole(self.stages(), video, self.gradient_checkpointing)

    def _enter(self, video: Tensor, stream: FrameStream | None) -> Tensor:
        return self.conv_in(channels_last(patchify(video, self.patch_size_t, self.patch_size)), stream)

    def _leave(self, hidden_states: Tensor, stream: FrameStream | None) -> Tensor:
        moments = self.conv_out(F.silu(pixel_norm(hidden_states), inplace=True), stream)
        # One variance is learned for all channels: it is repeated to stand beside every mean.
        return torch.cat([moments, moments[:, -1:].expand(-1, moments.shape[1] - 2, -1, -1, -1)], dim=1)


class LTXVideoDecoder3d(nn.Module):
    """Latents to pixels; a timestep-conditioned decoder also takes the last denoising step (section 2.1.2)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.patch_size, self.patch_size_t = config.patch_size, config.patch_size_t
        self.gradient_checkpointing = False
        # Configurations list the blocks from pixels to latents; the decoder goes the other way.
        widths, factors = config.decoder_block_out_channels[::-1], config.upsample_factor[::-1]
        layers, noise = config.decoder_layers_per_block[::-1], config.decoder_inject_noise[::-1]
        upsamples, shortcuts = config.decoder_spatio_temporal_scaling[::-1], config.upsample_residual[::-1]
        width, is_causal = widths[0], config.decoder_causal
        self.conv_in = CausalConv3d(config.latent_channels, width, is_causal=is_causal)
        self.mid_block = LTXVideoUpBlock3d(width, width, layers[0], config, noise[0])
        up_blocks = []
        for i, factor in zip(range(len(widths)), factors, strict=False):
            upsampler = partial(LTXVideoUpsampler3d, widths[i], is_causal, shortcuts[i], factor)
            block = LTXVideoUpBlock3d(
                width // factor,
                widths[i] // factor,
                layers[i + 1],
                config,
                noise[i + 1],
                upsampler if upsamples[i] else None,
            )
            up_blocks.append(block)
            width = widths[i] // factor
        self.up_blocks = module_list(up_blocks)

        self.conv_out = CausalConv3d(width, config.out_channels * config.patch_size**2, is_causal=is_causal)
        self.timestep_scale_multiplier: nn.Parameter | None = None
        self.time_embedder: CombinedTimestepEmbedding | None = None
        self.scale_shift_table: nn.Parameter | None = None
        if config.timestep_conditioning:
            self.timestep_scale_multiplier = nn.Parameter(torch.tensor(1000.0))
            self.time_embedder = CombinedTimestepEmbedding(2 * width)
            self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)

    def stages(self, temb: Tensor | None, generator: Generators) -> list[Stage]:
        """From latents to pixels, in order."""
        if self.timestep_scale_multiplier is not None:
            if temb is None:
                raise ValueError("This decoder is conditioned on a timestep: pass temb, one value for each video.")
            temb = (temb * self.timestep_scale_multiplier).flatten()
        condition = DecoderCondition(temb, generator, self.conv_in.conv.weight.dtype)
        stages: list[Stage] = [lambda latents, stream: self.conv_in(channels_last(latents), stream)]
        stages += self.mid_block.stages(condition)
        for block in self.up_blocks:
            stages += block.stages(condition)
        return [*stages, partial(self._leave, condition)]

    def forward(
        self,
        latents: Tensor,  # (batch, latent_channels, latent frames, latent height, latent width)
        temb: Tensor | None = None,  # (batch,), the timestep in [0, 1]
        generator: Generators = None,
    ) -> Tensor:  # (batch, out_channels, frames, height, width)
        # Noise from a generator would not be the same the second time.
        return run_whole(self.stages(temb, generator), latents, self.gradient_checkpointing and generator is None)

    def _leave(self, condition: DecoderCondition, hidden_states: Tensor, stream: FrameStream | None) -> Tensor:
        hidden_states = pixel_norm(hidden_states)
        if self.time_embedder is not None and self.scale_shift_table is not None and condition.timestep is not None:
            embedded = self.time_embedder(condition.timestep, hidden_states.dtype).unflatten(1, (2, -1))
            shift, scale = (embedded + self.scale_shift_table).unbind(1)
            hidden_states = modulate_channels(hidden_states, scale, shift)
        patches = self.conv_out(F.silu(hidden_states, inplace=True), stream)
        return unpatchify(patches, self.patch_size_t, self.patch_size)
