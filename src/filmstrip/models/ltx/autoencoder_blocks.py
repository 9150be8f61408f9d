"""The parts of LTX-Video's autoencoder (arXiv:2501.00103, section 2.1).

Tensors are (batch, channels, frames, height, width), each position's channels side by side in memory. Every part takes
an optional `stream`: without one it sees a whole video, with one it gets consecutive chunks of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.checks import known
from filmstrip.configuration import Config
from filmstrip.kernels.layout import channels_last
from filmstrip.nn.causal_conv import CausalConv3d, depth_to_space, space_to_depth
from filmstrip.nn.embeddings import CombinedTimestepEmbedding
from filmstrip.nn.modules import module_list
from filmstrip.nn.normalization import rms_norm
from filmstrip.nn.streaming import FrameStream
from filmstrip.randomness import Generators, draw_noise

NORM_EPS = 1e-8
# How many frames, rows and columns each kind takes together (0.9.5).
DOWNSAMPLERS = {"spatial": (1, 2, 2), "temporal": (2, 1, 1), "spatiotemporal": (2, 2, 2)}

# Takes a video, or a chunk of one and what was kept of the chunks before.
Stage = Callable[[Tensor, FrameStream | None], Tensor]


def pixel_norm(hidden_states: Tensor) -> Tensor:
    """The channels of each position scaled to a root mean square of one."""
    return rms_norm(hidden_states.movedim(1, -1), NORM_EPS).movedim(-1, 1)


def modulate_channels(hidden_states: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`hidden_states * (1 + scale) + shift`; scale and shift are (batch, channels)."""
    return torch.addcmul(shift[:, :, None, None, None], hidden_states, (1 + scale)[:, :, None, None, None])


@dataclass(frozen=True)
class DecoderCondition:
    """What a decoder is told besides the latents: the timestep it decodes at, and where injected noise comes from."""

    timestep: Tensor | None = None  # (batch,), already scaled
    generator: Generators = None
    dtype: torch.dtype = torch.float32


class LTXVideoResnetBlock3d(nn.Module):
    """Two convolutions with a shortcut; a timestep may modulate them and noise be added to each."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        eps: float,
        is_causal: bool,
        inject_noise: bool = False,
        timestep_conditioning: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = CausalConv3d(in_channels, out_channels, is_causal=is_causal)
        self.conv2 = CausalConv3d(out_channels, out_channels, is_causal=is_causal)
        self.norm3 = self.conv_shortcut = None
        if in_channels != out_channels:
            self.norm3 = nn.LayerNorm(in_channels, eps)
            self.conv_shortcut = CausalConv3d(in_channels, out_channels, kernel_size=1)
        self.per_channel_scale1 = nn.Parameter(torch.zeros(in_channels, 1, 1)) if inject_noise else None
        self.per_channel_scale2 = nn.Parameter(torch.zeros(in_channels, 1, 1)) if inject_noise else None
        self.scale_shift_table = None
        if timestep_conditioning:
            self.scale_shift_table = nn.Parameter(torch.randn(4, in_channels) / in_channels**0.5)

    def forward(
        self,
        inputs: Tensor,
        temb: Tensor | None = None,  # (batch, 4 * in_channels)
        generator: Generators = None,
        stream: FrameStream | None = None,
    ) -> Tensor:  # as inputs, with out_channels
        shift_1 = scale_1 = shift_2 = scale_2 = None
        if self.scale_shift_table is not None and temb is not None:
            shift_1, scale_1, shift_2, scale_2 = (temb.unflatten(1, (4, -1)) + self.scale_shift_table).unbind(1)

        hidden_states = self.conv1(self._activate(inputs, scale_1, shift_1), stream)
        hidden_states = self._add_noise(hidden_states, self.per_channel_scale1, generator, stream)
        hidden_states = self.conv2(self._activate(hidden_states, scale_2, shift_2), stream)
        hidden_states = self._add_noise(hidden_states, self.per_channel_scale2, generator, stream)

        if stream is not None:  # the convolutions may still hold back frames that the shortcut has
            inputs = stream.take(self, inputs, hidden_states.shape[2])
        if self.norm3 is not None and self.conv_shortcut is not None:
            inputs = self.conv_shortcut(self.norm3(inputs.movedim(1, -1)).movedim(-1, 1), stream)
        return hidden_states + inputs

    @staticmethod
    def _activate(hidden_states: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        hidden_states = pixel_norm(hidden_states)
        if scale is not None and shift is not None:
            hidden_states = modulate_channels(hidden_states, scale, shift)
        return F.silu(hidden_states, inplace=True)

    @staticmethod
    def _add_noise(
        hidden_states: Tensor, strength: Tensor | None, generator: Generators, stream: FrameStream | None
    ) -> Tensor:
        if strength is None:
            return hidden_states

        def draw() -> Tensor:
            # All frames share one field of noise, and so do videos that share a generator.
            videos = len(generator) if isinstance(generator, list) else 1
            size = (videos, *hidden_states.shape[-2:])
            return draw_noise(size, generator, hidden_states.device, hidden_states.dtype)[:, None]

        noise = draw() if stream is None else stream.once(strength, draw)  # (videos or 1, 1, height, width)
        return hidden_states + (noise * strength)[:, :, None]


class LTXVideoDownsampler3d(nn.Module):
    """Space and time folded into channels, on a convolution's path and on a path that averages (0.9.5)."""

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int, int], is_causal: bool) -> None:
        super().__init__()
        self.stride = stride
        volume = stride[0] * stride[1] * stride[2]
        self.group_size = in_channels * volume // out_channels
        self.conv = CausalConv3d(in_channels, out_channels // volume, is_causal=is_causal)

    def forward(self, hidden_states: Tensor, stream: FrameStream | None = None) -> Tensor:
        starts = stream is None or not stream.started(self)
        if starts:  # the first frame stands alone: repeated, it fills its own group
            hidden_states = torch.cat([hidden_states[:, :, : self.stride[0] - 1], hidden_states], dim=2)
        folded = self.conv(hidden_states, stream)
        if stream is not None:
            # Only whole groups of frames can be folded, and the same ones on both paths.
            ready = stream.resume("folded", folded)
            whole = ready.shape[2] // self.stride[0] * self.stride[0]
            folded = stream.take("folded", folded, whole)
            hidden_states = stream.take(self, hidden_states, whole)
        residual = space_to_depth(hidden_states, self.stride).unflatten(1, (-1, self.group_size)).mean(dim=2)
        return channels_last(space_to_depth(folded, self.stride) + residual)


class LTXVideoUpsampler3d(nn.Module):
    """Channels unfolded to space and time, optionally with a shortcut that unfolds the input."""

    def __init__(self, in_channels: int, is_causal: bool, residual: bool, upscale_factor: int) -> None:
        super().__init__()
        self.stride = (2, 2, 2)
        self.residual = residual
        self.repeats = 8 // upscale_factor
        self.conv = CausalConv3d(in_channels, in_channels * self.repeats, is_causal=is_causal)

    def forward(self, inputs: Tensor, stream: FrameStream | None = None) -> Tensor:
        hidden_states = depth_to_space(self.conv(inputs, stream), self.stride)
        if self.residual:
            if stream is not None:
                inputs = stream.take(self, inputs, hidden_states.shape[2] // self.stride[0])
            shortcut = depth_to_space(inputs, self.stride)  # (batch, in_channels / 8, ...)
            hidden_states = hidden_states + shortcut.repeat(1, self.repeats, 1, 1, 1)
        if stream is None or (hidden_states.shape[2] > 0 and not stream.started("first")):
            if stream is not None:
                stream.keep("first", hidden_states[:, :, :0])
            hidden_states = hidden_states[:, :, self.stride[0] - 1 :]  # the first latent frame stands for one frame
        return channels_last(hidden_states)


def resnet_stages(
    resnets: list[LTXVideoResnetBlock3d],
    time_embedder: CombinedTimestepEmbedding | None = None,
    condition: DecoderCondition | None = None,
) -> list[Stage]:
    """Residual blocks that share one embedding of the timestep, as stages."""
    condition = condition or DecoderCondition()
    temb = None
    if time_embedder is not None and condition.timestep is not None:
        temb = time_embedder(condition.timestep, condition.dtype)  # (batch, 4 * channels)

    def run(resnet: LTXVideoResnetBlock3d, hidden_states: Tensor, stream: FrameStream | None) -> Tensor:
        return resnet(hidden_states, temb, condition.generator, stream)

    return [partial(run, resnet) for resnet in resnets]


class LTXVideoDownBlock3D(nn.Module):
    """Residual blocks, then perhaps half the resolution in space and time, and another width."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_layers: int,
        config: Config,
        downsamples: bool = False,
        downsample_type: str | None = None,  # None: blocks of 0.9.0, a strided convolution, then the new width
    ) -> None:
        super().__init__()
        norm = config.resnet_norm_eps, config.encoder_causal
        self.resnets = module_list(LTXVideoResnetBlock3d(in_channels, in_channels, *norm) for _ in range(num_layers))
        self.downsamplers: list[Any] | None = None
        self.conv_out: LTXVideoResnetBlock3d | None = None
        if downsamples and downsample_type in (None, "conv"):
            self.downsamplers = module_list([CausalConv3d(in_channels, in_channels, 3, 2, config.encoder_causal)])
        elif downsamples:
            stride = DOWNSAMPLERS[known(downsample_type)]
            downsampler = LTXVideoDownsampler3d(in_channels, out_channels, stride, config.encoder_causal)
            self.downsamplers = module_list([downsampler])
        if downsample_type is None and in_channels != out_channels:
            self.conv_out = LTXVideoResnetBlock3d(in_channels, out_channels, *norm)

    def stages(self) -> list[Stage]:
        """The block's parts, in order."""
        widening = [] if self.conv_out is None else [self.conv_out]
        return [*resnet_stages(self.resnets), *(self.downsamplers or ()), *resnet_stages(widening)]


class LTXVideoUpBlock3d(nn.Module):
    """Perhaps twice the resolution in space and time, then residual blocks."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_layers: int,
        config: Config,
        inject_noise: bool,
        upsampler: Callable[[], LTXVideoUpsampler3d] | None = None,
    ) -> None:
        super().__init__()
        is_conditioned = config.timestep_conditioning
        if is_conditioned and in_channels != out_channels:
            raise ValueError(
                f"A timestep-conditioned decoder can't change its width inside a block, got {in_channels} to "
                f"{out_channels}; use upsample_factor, as the published configurations do."
            )
        norm = config.resnet_norm_eps, config.decoder_causal
        self.time_embedder = CombinedTimestepEmbedding(4 * in_channels) if is_conditioned else None
        self.conv_in = None
        if in_channels != out_channels:
            self.conv_in = LTXVideoResnetBlock3d(in_channels, out_channels, *norm, inject_noise)
        self.upsamplers = None if upsampler is None else module_list([upsampler()])
        self.resnets = module_list(
            LTXVideoResnetBlock3d(out_channels, out_channels, *norm, inject_noise, is_conditioned)
            for _ in range(num_layers)
        )

    def stages(self, condition: DecoderCondition) -> list[Stage]:
        """The block's parts, in order."""
        widening = [] if self.conv_in is None else [self.conv_in]
        entrance = [*resnet_stages(widening, None, condition), *(self.upsamplers or ())]
        return [*entrance, *resnet_stages(self.resnets, self.time_embedder, condition)]
