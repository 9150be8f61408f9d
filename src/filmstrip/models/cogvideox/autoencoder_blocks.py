"""The parts of CogVideoX's autoencoder (arXiv:2408.06072, section 2.1).

Tensors are (batch, channels, frames, height, width), each position's channels side by side in memory. A part sees one
chunk of a video at a time; the frames that its convolutions reach back to are kept in a stream. Without a stream the
chunk is a whole video. Norms take their statistics from the chunk, so its length matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.kernels.activated import activated_strips
from filmstrip.kernels.convolution import convolve
from filmstrip.kernels.group_norm import Affine
from filmstrip.kernels.layout import channels_last, empty_channels_last
from filmstrip.kernels.plain import is_free, wants_plain
from filmstrip.kernels.video_convolution import rows_writer, strips
from filmstrip.nn.activations import activation_named
from filmstrip.nn.autoencoder import Level
from filmstrip.nn.causal_conv import CausalConv3d
from filmstrip.nn.streaming import FrameStream

# The decoder's norms have this one, whatever the configuration says.
SPATIAL_NORM_EPS = 1e-6


def latent_frame_of(num_frames: int, num_latent_frames: int) -> list[int]:
    """For each frame of a chunk the index of its latent frame; in an odd chunk the first frame stands alone."""
    alone = int(num_frames > 1 and num_frames % 2 == 1)
    repeats = (num_frames - alone) // (num_latent_frames - alone)
    return [0] * alone + [alone + i // repeats for i in range(num_frames - alone)]


class CogVideoXSpatialNorm3D(nn.Module):
    """Group normalisation whose scale and shift at each position come from the latents (arXiv:2209.09002)."""

    def __init__(self, f_channels: int, zq_channels: int, groups: int) -> None:
        super().__init__()
        self.norm_layer = nn.GroupNorm(groups, f_channels, SPATIAL_NORM_EPS)
        self.conv_y = CausalConv3d(zq_channels, f_channels, kernel_size=1)
        self.conv_b = CausalConv3d(zq_channels, f_channels, kernel_size=1)

    def affine(self, hidden_states: Tensor, latents: Tensor) -> Affine:
        """What the norm does to this chunk, at the latents' height and width.

        Latents are repeated to the chunk's size. Convolutions of one position commute with that and are done before.
        """
        latents = latents[:, :, latent_frame_of(hidden_states.shape[2], latents.shape[2])]
        # In float32 like the norm: at this size exactness costs nothing.
        scale, shift = (_at_each_latent(conv.conv, latents) for conv in (self.conv_y, self.conv_b))
        return Affine.of_norm(self.norm_layer, hidden_states).then(scale, shift)


def _at_each_latent(conv: nn.Conv3d, latents: Tensor) -> Tensor:
    weight, bias = conv.weight.flatten(1).float(), None if conv.bias is None else conv.bias.float()
    return F.linear(latents.float().movedim(1, -1), weight, bias).movedim(-1, 1)


def affine_of(norm: nn.Module, hidden_states: Tensor, latents: Tensor | None) -> Affine:
    """What either kind of norm does to this chunk."""
    if isinstance(norm, CogVideoXSpatialNorm3D):
        assert latents is not None
        return norm.affine(hidden_states, latents)
    assert isinstance(norm, nn.GroupNorm)
    return Affine.of_norm(norm, hidden_states)


def convolve_activated(
    conv: CausalConv3d,
    hidden_states: Tensor,  # (batch, channels, frames, height, width)
    affine: Affine,
    activation: Callable[[Tensor], Tensor],
    stream: FrameStream | None,
    added_to: Tensor | None = None,
) -> Tensor:  # (batch, out_channels, frames, height, width)
    """Normalise, activate and convolve a chunk, and add the result to another one, which is overwritten if it may be.

    The normalised chunk exists in strips of rows only, unless operations are recorded, traced or watched.
    """
    if not is_free() or not conv.is_plain:
        convolved = conv(activation(affine(hidden_states)).to(hidden_states.dtype), stream)
        return convolved if added_to is None else added_to + convolved
    _, channels, frames, height, width = hidden_states.shape
    before, reach, out_channels = None if stream is None else stream.kept(conv), conv.before, conv.out_channels
    kept = empty_channels_last(hidden_states, channels, (reach, height, width))
    result = added_to
    if result is None:
        result = empty_channels_last(hidden_states, out_channels, (frames, height, width))
    write_rows = rows_writer(conv.layer, hidden_states)
    in_strips = activated_strips(hidden_states, strips(hidden_states, out_channels), affine, activation, reach, before)
    for rows, strip in in_strips:
        kept[:, :, :, rows] = strip[:, :, -reach:, 1:-1]
        write_rows(strip, result[:, :, :, rows], added_to is not None)
    if stream is not None:
        stream.hold(conv, kept)
    return result


class CogVideoXResnetBlock3D(nn.Module):
    """Two normalised convolutions with a shortcut; the decoder's norms also see the latents."""

    def __init__(
        self, in_channels: int, out_channels: int, config: Config, spatial_norm_dim: int | None = None
    ) -> None:
        super().__init__()
        groups, eps = config.norm_num_groups, config.norm_eps
        if spatial_norm_dim is None:
            self.norm1: nn.Module = nn.GroupNorm(groups, in_channels, eps)
            self.norm2: nn.Module = nn.GroupNorm(groups, out_channels, eps)
        else:
            self.norm1 = CogVideoXSpatialNorm3D(in_channels, spatial_norm_dim, groups)
            self.norm2 = CogVideoXSpatialNorm3D(out_channels, spatial_norm_dim, groups)
        self.conv1 = CausalConv3d(in_channels, out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels)
        self.conv_shortcut = nn.Conv3d(in_channels, out_channels, 1) if in_channels != out_channels else None
        self.activation = activation_named(config.act_fn)

    def forward(
        self,
        inputs: Tensor,  # overwritten where no gradients are recorded
        latents: Tensor | None,  # (batch, spatial_norm_dim, latent frames, latent height, latent width)
        stream: FrameStream | None,
    ) -> Tensor:
        inputs = channels_last(inputs)
        affine = affine_of(self.norm1, inputs, latents)
        hidden_states = convolve_activated(self.conv1, inputs, affine, self.activation, stream)
        if self.conv_shortcut is not None:
            frames = inputs.transpose(1, 2).flatten(0, 1)  # (batch * frames, in_channels, height, width)
            frames = convolve(frames, self.conv_shortcut.weight.squeeze(2), self.conv_shortcut.bias, (0, 0))
            inputs = channels_last(frames.unflatten(0, (len(inputs), -1)).transpose(1, 2))
        affine = affine_of(self.norm2, hidden_states, latents)
        return convolve_activated(self.conv2, hidden_states, affine, self.activation, stream, added_to=inputs)


class CogVideoXDownsample3D(nn.Module):
    """Half the height and width by a convolution, after half the frames by averaging pairs."""

    def __init__(self, channels: int, compress_time: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)
        self.compress_time = compress_time

    def forward(self, hidden_states: Tensor) -> Tensor:
        if self.compress_time and hidden_states.shape[2] > 1:
            alone = hidden_states.shape[2] % 2  # in an odd chunk the first frame has no partner
            pairs = hidden_states[:, :, alone:].unflatten(2, (-1, 2)).mean(dim=3)
            hidden_states = torch.cat([hidden_states[:, :, :1], pairs], dim=2) if alone else pairs
        batch = hidden_states.shape[0]
        frames = hidden_states.transpose(1, 2).flatten(0, 1)  # (batch * frames, channels, height, width)
        halved = self.conv(F.pad(frames, (0, 1, 0, 1)))
        return channels_last(halved.unflatten(0, (batch, -1)).transpose(1, 2))


class CogVideoXUpsample3D(nn.Module):
    """Twice the height and width by repetition, then a convolution of each frame, then perhaps twice the frames."""

    def __init__(self, channels: int, compress_time: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.compress_time = compress_time

    def forward(self, hidden_states: Tensor) -> Tensor:
        batch, _, num_frames, height, width = hidden_states.shape
        # Repeated frames come out alike, so they are repeated last; in an odd chunk the first one is not.
        repeats = self.compress_time and num_frames > 1
        sources = latent_frame_of(2 * num_frames - num_frames % 2, num_frames) if repeats else list(range(num_frames))
        kernel = self._kernel()

        def doubled(frames: Tensor) -> Tensor:  # (batch * frames, channels, ...)
            if wants_plain():
                plain: Tensor = self.conv(F.interpolate(frames, scale_factor=2))
                return plain
            return F.conv_transpose2d(frames, kernel, self.conv.bias, stride=2, padding=1)

        if not is_free():
            frames = doubled(hidden_states.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, -1))
            return channels_last(frames[:, sources].transpose(1, 2))
        video = empty_channels_last(hidden_states, self.conv.out_channels, (len(sources), 2 * height, 2 * width))
        for i, source in enumerate(sources):
            repeated = i > 0 and source == sources[i - 1]
            video[:, :, i] = video[:, :, i - 1] if repeated else doubled(hidden_states[:, :, source])
        return video

    def _kernel(self) -> Tensor:  # (channels, channels, 4, 4)
        """Each pixel's share of the square around it: `conv` after a repetition, in less than half the products."""
        weight = self.conv.weight.to(torch.promote_types(self.conv.weight.dtype, torch.float32))  # rounded once summed
        # Its two by two copies each meet the kernel, one row and one column further.
        copies = [F.pad(weight, (left, 1 - left, top, 1 - top)) for left in range(2) for top in range(2)]
        kernel = torch.stack(copies).sum(dim=0)
        return kernel.to(self.conv.weight.dtype).flip(2, 3).transpose(0, 1)


def resnets(widths: Sequence[int], config: Config, spatial_norm_dim: int | None = None) -> list[CogVideoXResnetBlock3D]:
    """Residual blocks from each width to the next."""
    return [CogVideoXResnetBlock3D(before, width, config, spatial_norm_dim) for before, width in pairwise(widths)]


class CogVideoXLevel3D(Level):
    """A level whose residual blocks see one chunk of a video."""

    def forward(
        self,
        hidden_states: Tensor,  # overwritten where no gradients are recorded
        latents: Tensor | None = None,  # (batch, spatial_norm_dim, latent frames, latent height, latent width)
        stream: FrameStream | None = None,
    ) -> Tensor:
        for resnet in self.resnets:
            hidden_states = resnet(hidden_states, latents, stream)
        for sampler in self.samplers:
            hidden_states = sampler(hidden_states)
        return hidden_states
