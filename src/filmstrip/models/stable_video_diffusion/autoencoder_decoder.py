"""The decoder of Stable Video Diffusion's autoencoder: that of pictures, with layers over time (arXiv:2304.08818)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.kernels.layers import Conv2d, Conv3d
from filmstrip.kernels.plain import is_free
from filmstrip.kernels.valueless import in_turn, is_on_cpu
from filmstrip.models.stable_diffusion.autoencoder_blocks import EPS, PictureAttention
from filmstrip.models.stable_video_diffusion.temporal import GROUPS, SpatioTemporalResBlock, TimeMixer
from filmstrip.nn.autoencoder import Level
from filmstrip.nn.modules import module_list
from filmstrip.nn.recomputing import recomputed
from filmstrip.nn.resnet import Upsample2D, convolve_activated

TEMPORAL_EPS = 1e-5
# Pixels that go into layers of pictures together, on an accelerator; a CPU takes one picture after the other.
PIXELS_AT_ONCE = 2**18

Layer = Callable[[Tensor], Tensor]
"""Of pictures, each by itself: (pictures, channels, height, width)."""


def _resnets(widths: Sequence[int]) -> list[SpatioTemporalResBlock]:
    return [
        SpatioTemporalResBlock(before, width, eps=EPS, temporal_eps=TEMPORAL_EPS, mixer=TimeMixer(0.0, of_time=True))
        for before, width in pairwise(widths)
    ]


class TemporalMidBlock(Level):
    """Blocks at the lowest resolution; of these networks only the first two are used, with attention between them."""

    def __init__(self, channels: int, num_layers: int) -> None:
        super().__init__(_resnets([channels] * (num_layers + 1)))
        self.attentions = nn.ModuleList([PictureAttention(channels, GROUPS)])

    def layers(self) -> list[nn.Module]:
        first, *others = self.resnets
        return [first, *self.attentions, others[0]] if others else [first]


class TemporalDecoder(nn.Module):
    """Latents of the frames of one video to pixels.

    Each norm over time takes its statistics from all frames, so all must have come through one layer before any goes
    through the next. Where nothing is recorded, that is all that is held of them: layers of pictures take one frame
    after the other, those over time one portion of positions after the other, and results take the place of what they
    were made from.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        # Configurations list the blocks from pixels to latents; the decoder goes the other way.
        widths = [config.block_out_channels[-1], *reversed(config.block_out_channels)]
        samplers = [*(Upsample2D(width) for width in widths[1:-1]), None]
        self.conv_in = Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = TemporalMidBlock(widths[0], config.layers_per_block)
        self.up_blocks = module_list(
            Level(_resnets([before, *[width] * (config.layers_per_block + 1)]), upsampler=sampler)
            for (before, width), sampler in zip(pairwise(widths), samplers, strict=True)
        )
        self.conv_norm_out = nn.GroupNorm(GROUPS, widths[-1], EPS)
        self.conv_out = Conv2d(widths[-1], config.out_channels, 3, padding=1)
        self.time_conv_out = Conv3d(config.out_channels, config.out_channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(
        self,
        latents: Tensor,  # (frames, latent_channels, latent height, latent width)
    ) -> Tensor:  # (frames, out_channels, height, width)
        is_ours = not any(one._forward_hooks or one._forward_pre_hooks for one in self.modules())
        hidden_states = latents.contiguous(memory_format=torch.channels_last)
        layers: list[Layer] = [self.conv_in]
        for layer in self._layers():
            if not isinstance(layer, SpatioTemporalResBlock):
                layers.append(layer)
                continue
            layers.append(layer.spatial_res_block)
            # The latents are the caller's.
            may_overwrite = is_ours and hidden_states.shape[1] != latents.shape[1]
            hidden_states = self._pictures(layers, hidden_states, may_overwrite=may_overwrite)
            over_time = partial(layer.mixed, num_frames=len(latents), may_overwrite=is_ours)
            hidden_states = self._called(over_time, hidden_states)
            layers = []
        pixels = self._pictures([*layers, self._output], hidden_states)
        return self.time_conv_out(pixels.transpose(0, 1)[None])[0].transpose(0, 1)

    def _layers(self) -> Iterator[nn.Module]:
        for block in (self.mid_block, *self.up_blocks):
            yield from block.layers()

    def _output(self, hidden_states: Tensor) -> Tensor:
        return convolve_activated(self.conv_norm_out, F.silu, self.conv_out, hidden_states)

    def _called(self, layer: Layer, hidden_states: Tensor) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return recomputed(layer, hidden_states)
        return layer(hidden_states)

    def _pictures(self, layers: Sequence[Layer], pictures: Tensor, *, may_overwrite: bool = False) -> Tensor:
        """What layers make of pictures, a few at a time where nothing is recorded.

        Args:
            may_overwrite: results may take the place of the pictures, if they are as large.
        """
        count = max(1, PIXELS_AT_ONCE // (pictures.shape[2] * pictures.shape[3]))
        if is_free() and is_on_cpu(pictures):
            count = 1
        if not is_free() or len(pictures) <= count:
            for layer in layers:
                pictures = self._called(layer, pictures)
            return pictures
        into: Tensor | None = None
        for start in in_turn(range(0, len(pictures), count), pictures):
            part = pictures[start : start + count]
            for layer in layers:
                part = layer(part)
            if into is None:
                is_as_large = part.shape[1:] == pictures.shape[1:]
                into = pictures if may_overwrite and is_as_large else _room(part, len(pictures))
            into[start : start + count] = part
        assert into is not None, "a video has frames"
        return into


def _room(like: Tensor, num_pictures: int) -> Tensor:
    """Room for so many pictures, with each position's channels side by side in memory."""
    _, channels, height, width = like.shape
    return like.new_empty(num_pictures, height, width, channels).movedim(-1, 1)
