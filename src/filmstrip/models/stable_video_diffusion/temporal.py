"""Residual blocks over a picture and over neighbouring frames, and how both are mixed (arXiv:2304.08818).

Frames are folded into the batch: pictures are (batch * frames, channels, height, width).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.kernels.convolution import convolve
from filmstrip.kernels.group_norm import Affine, Moments
from filmstrip.kernels.layers import Conv3d
from filmstrip.kernels.layout import channels_last
from filmstrip.kernels.plain import is_free, is_plain
from filmstrip.kernels.valueless import in_turn, is_on_cpu
from filmstrip.nn.resnet import ResnetBlock2D

GROUPS = 32
# Numbers that are worked on at a time, of all frames together: what stays in the caches of a core, or what an
# accelerator finds worth a call.
PORTION_CPU, PORTION_ACCELERATOR = 2**20, 2**27
# Numbers of a video up to which what lies between the two convolutions is kept; of a larger one it is computed twice.
MOST_KEPT = 2**27


class TimeMixer(nn.Module):
    """How much of the branch over time there is in a block's result: a share that was learned.

    Args:
        of_time: whether the number in checkpoints stands for that share, and not for the rest.
    """

    def __init__(self, initial: float, *, of_time: bool) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([initial]))
        self.of_time = of_time

    def forward(self) -> Tensor:
        share = torch.sigmoid(self.mix_factor)
        return share if self.of_time else 1 - share


class TemporalResnetBlock(nn.Module):
    """Two normalised convolutions over neighbouring frames, at each position by itself; their sum is added to a video.

    Statistics are of all frames together, and beyond the first and the last frame there are zeros, so that each frame
    depends on all that are given at once.
    """

    def __init__(self, channels: int, temb_channels: int | None, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, eps)
        self.conv1 = Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
        self.time_emb_proj = None if temb_channels is None else nn.Linear(temb_channels, channels)
        self.norm2 = nn.GroupNorm(GROUPS, channels, eps)
        self.conv2 = Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(
        self,
        video: Tensor,  # (batch, channels, frames, height, width)
        share: Tensor,  # (1,), of what is added
        temb: Tensor | None = None,  # (batch, temb_channels)
        *,
        may_overwrite: bool = False,
    ) -> Tensor:  # as `video`
        """The video and a share of what its frames are told by their neighbours.

        Args:
            may_overwrite: nobody else has the video, so that the sum may take its place in memory.
        """
        moved = None
        if self.time_emb_proj is not None:
            assert temb is not None
            moved = self.time_emb_proj(F.silu(temb))  # (batch, channels)
        if not self._may_divide():
            hidden_states = self.conv1(F.silu(self.norm1(video)))
            if moved is not None:
                hidden_states = hidden_states + moved[:, :, None, None, None]
            return torch.addcmul(video, self.conv2(F.silu(self.norm2(hidden_states))), share)
        result = channels_last(video)
        if result is video and not may_overwrite:
            result = video.clone(memory_format=torch.channels_last_3d)
        for index, one in enumerate(result.split(1)):
            self._add(one, share, None if moved is None else moved[index])
        return result

    def _may_divide(self) -> bool:
        layers = (self.norm1, self.conv1, self.norm2, self.conv2)
        return is_free() and all(is_plain(layer, nn.GroupNorm, nn.Conv3d) for layer in layers)

    def _add(self, video: Tensor, share: Tensor, moved: Tensor | None) -> None:
        """The same to one video, in place, in portions of positions: what is between exists of a portion only."""
        positions = video[0].permute(1, 2, 3, 0).flatten(1, 2)  # (frames, positions, channels): the video's own memory
        first, bias = Affine.of_norm(self.norm1, video), self.conv1.bias
        if moved is not None:
            bias = moved if bias is None else bias + moved

        def told(part: Tensor) -> Tensor:
            return _over_time(_activated(part, first), self.conv1.weight, bias)

        kept = torch.empty_like(positions) if video.numel() <= MOST_KEPT else None
        moments = Moments()
        for rows in _portions(positions):
            part = told(positions[:, rows])
            moments.add(part.flatten(0, 1))
            if kept is not None:
                kept[:, rows] = part
        second = Affine.of_moments(self.norm2, *moments.of_groups(GROUPS))
        for rows in _portions(positions):
            part = told(positions[:, rows]) if kept is None else kept[:, rows]
            part = _over_time(_activated(part, second), self.conv2.weight, self.conv2.bias)
            positions[:, rows].addcmul_(part, share)


def _portions(positions: Tensor) -> Iterator[slice]:
    frames, total, channels = positions.shape
    numbers = PORTION_CPU if is_on_cpu(positions) else PORTION_ACCELERATOR
    step = max(1, numbers // (frames * channels))
    for start in in_turn(range(0, total, step), positions):
        yield slice(start, min(start + step, total))


def _activated(part: Tensor, affine: Affine) -> Tensor:
    """Some positions, (frames, positions, channels), normalised and activated."""
    scale, shift = affine.scale.flatten(), affine.shift.flatten()  # each (channels,)
    return F.silu(torch.addcmul(shift, part.float(), scale), inplace=True).to(part.dtype)


def _over_time(part: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Positions convolved over their frames, (frames, positions, channels): a picture with a kernel one pixel wide."""
    # In this order the strides are those of a picture whose channels lie side by side.
    convolved = convolve(part[None].movedim(-1, 1), weight[..., 0], bias, (1, 0))  # (1, channels, frames, positions)
    return convolved[0].movedim(0, -1)


class SpatioTemporalResBlock(nn.Module):
    """A residual block of pictures, and after it one over time, mixed."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        temb_channels: int | None = None,
        *,
        eps: float,
        temporal_eps: float,
        mixer: TimeMixer,
    ) -> None:
        super().__init__()
        self.spatial_res_block = ResnetBlock2D(in_channels, out_channels, temb_channels, GROUPS, eps)
        self.temporal_res_block = TemporalResnetBlock(out_channels, temb_channels, temporal_eps)
        self.time_mixer = mixer

    def forward(
        self,
        pictures: Tensor,  # (batch * frames, in_channels, height, width)
        num_frames: int,
        temb: Tensor | None = None,  # (batch * frames, temb_channels), the same for all frames of a video
    ) -> Tensor:  # (batch * frames, out_channels, height, width)
        hidden_states = self.spatial_res_block(pictures, temb)
        may_overwrite = is_plain(self.spatial_res_block, ResnetBlock2D)
        return self.mixed(hidden_states, num_frames, temb, may_overwrite=may_overwrite)

    def mixed(
        self, pictures: Tensor, num_frames: int, temb: Tensor | None = None, *, may_overwrite: bool = False
    ) -> Tensor:
        """What the block over time makes of what the one of pictures made."""
        video = pictures.unflatten(0, (-1, num_frames)).transpose(1, 2)  # (batch, channels, frames, height, width)
        of_videos = None if temb is None else temb[::num_frames]
        share = self.time_mixer().to(video.dtype)
        video = self.temporal_res_block(video, share, of_videos, may_overwrite=may_overwrite)
        return video.transpose(1, 2).flatten(0, 1)
