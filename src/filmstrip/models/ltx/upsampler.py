"""The latent upsampler of LTX-Video 0.9.7 and later."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.kernels.layers import Conv2d, Conv3d
from filmstrip.network import Model
from filmstrip.nn.causal_conv import depth_to_space
from filmstrip.nn.modules import module_list

NORM_GROUPS = 32


class ResBlock(nn.Module):
    """Two normalised convolutions with a shortcut."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        convolution = Conv2d if dims == 2 else Conv3d
        self.conv1 = convolution(channels, channels, 3, padding=1)
        self.norm1 = nn.GroupNorm(NORM_GROUPS, channels)
        self.conv2 = convolution(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(NORM_GROUPS, channels)

    def forward(self, hidden_states: Tensor) -> Tensor:
        transformed = F.silu(self.norm1(self.conv1(hidden_states)))
        return F.silu(self.norm2(self.conv2(transformed)) + hidden_states)


class LTXLatentUpsamplerModel(Model):
    """Latents of twice the height and width, twice the frames less one, or both.

    Args: those of the published `config.json`; `dims` 2 treats frames as pictures of their own.
    """

    keep_precise = ("norm", "^initial_conv$", "^final_conv$")

    def __init__(
        self,
        in_channels: int = 128,
        mid_channels: int = 512,
        num_blocks_per_stage: int = 4,
        dims: int = 3,
        spatial_upsample: bool = True,
        temporal_upsample: bool = False,
    ) -> None:
        super().__init__()
        if not (spatial_upsample or temporal_upsample):
            raise ValueError("A latent upsampler needs spatial_upsample or temporal_upsample; both are off.")
        self.dims = dims
        self.temporal_upsample = temporal_upsample
        self.factors = (1 + temporal_upsample, 1 + spatial_upsample, 1 + spatial_upsample)
        convolution = Conv2d if dims == 2 else Conv3d
        # Frames are upsampled together only where their number changes.
        widening = Conv3d if temporal_upsample else Conv2d
        self.initial_conv = convolution(in_channels, mid_channels, 3, padding=1)
        self.initial_norm = nn.GroupNorm(NORM_GROUPS, mid_channels)
        self.res_blocks = module_list(ResBlock(mid_channels, dims) for _ in range(num_blocks_per_stage))
        factor = self.factors[0] * self.factors[1] * self.factors[2]
        self.upsampler = module_list([widening(mid_channels, factor * mid_channels, 3, padding=1)])
        self.post_upsample_res_blocks = module_list(ResBlock(mid_channels, dims) for _ in range(num_blocks_per_stage))
        self.final_conv = convolution(mid_channels, in_channels, 3, padding=1)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, in_channels, frames, height, width)
    ) -> Tensor:  # the same with more frames, height and width
        batch = hidden_states.shape[0]
        if self.dims == 2:
            hidden_states = _fold_frames(hidden_states)
        hidden_states = F.silu(self.initial_norm(self.initial_conv(hidden_states)))
        for block in self.res_blocks:
            hidden_states = block(hidden_states)
        hidden_states = self._upsample(hidden_states, batch)
        for block in self.post_upsample_res_blocks:
            hidden_states = block(hidden_states)
        hidden_states = self.final_conv(hidden_states)
        return _unfold_frames(hidden_states, batch) if self.dims == 2 else hidden_states

    def _upsample(self, hidden_states: Tensor, batch: int) -> Tensor:
        if self.temporal_upsample:
            # The first latent frame stands for a single frame, so its twin is dropped.
            return depth_to_space(self.upsampler[0](hidden_states), self.factors)[:, :, 1:]
        frames = hidden_states if self.dims == 2 else _fold_frames(hidden_states)
        widened = self.upsampler[0](frames)  # (batch * frames, channels * 4, height, width)
        frames = depth_to_space(widened.unsqueeze(2), self.factors).squeeze(2)
        return frames if self.dims == 2 else _unfold_frames(frames, batch)


def _fold_frames(video: Tensor) -> Tensor:
    return video.transpose(1, 2).flatten(0, 1)  # (batch * frames, channels, height, width)


def _unfold_frames(frames: Tensor, batch: int) -> Tensor:
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)  # (batch, channels, frames, height, width)
