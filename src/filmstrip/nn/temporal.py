"""What video models put between the layers of an image U-Net: convolutions and attention along time only.

Both see a position in all frames of a video, and neither sees its neighbours (arXiv:2308.06571, section 3.2). They take
and give pictures, with the frames of each video one after the other in the batch, as the layers around them do.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.kernels.layers import Conv3d, Linear
from filmstrip.nn.modules import module_list
from filmstrip.nn.resnet import activated, added
from filmstrip.nn.spatial_transformer import GROUP_NORM_EPS, BasicTransformerBlock
from filmstrip.nn.unet import Call, Conditions


def as_videos(
    hidden_states: Tensor,  # (batch * frames, channels, height, width)
    num_frames: int,
) -> Tensor:  # (batch, channels, frames, height, width), in the same memory
    """Frames that are folded into the batch, as videos."""
    return hidden_states.unflatten(0, (-1, num_frames)).transpose(1, 2)


def as_frames(
    videos: Tensor,  # (batch, channels, frames, height, width)
) -> Tensor:  # (batch * frames, channels, height, width)
    """Videos with their frames folded into the batch."""
    return videos.transpose(1, 2).flatten(0, 1)


class TemporalConvLayer(nn.Module):
    """Four normalised convolutions of three frames, added to the video.

    Args:
        dropout: of channels' values before each convolution but the first, in training.
    """

    def __init__(self, channels: int, groups: int = 32, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = _layers(channels, groups)
        self.conv2, self.conv3, self.conv4 = (_layers(channels, groups, nn.Dropout(dropout)) for _ in range(3))

    def forward(
        self,
        hidden_states: Tensor,  # (batch * frames, channels, height, width)
        num_frames: int,
    ) -> Tensor:  # (batch * frames, channels, height, width)
        videos = as_videos(hidden_states, num_frames)
        moved = videos
        for norm, _, *dropout, conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            moved = activated(norm(moved), F.silu)
            for layer in dropout:
                moved = layer(moved)
            moved = conv(moved)
        return as_frames(added(moved, videos, self.conv4[-1]))


def _layers(channels: int, groups: int, *dropout: nn.Module) -> nn.Sequential:
    """A norm, an activation and a convolution, at the places that checkpoints count."""
    conv = Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
    return nn.Sequential(nn.GroupNorm(groups, channels), nn.SiLU(), *dropout, conv)


class TemporalTransformer(nn.Module):
    """Transformer blocks over the frames at each position, added to the video; each attends twice."""

    def __init__(self, channels: int, num_heads: int, head_dim: int, num_layers: int = 1, groups: int = 32) -> None:
        super().__init__()
        inner_dim = num_heads * head_dim
        self.norm = nn.GroupNorm(groups, channels, GROUP_NORM_EPS)
        self.proj_in, self.proj_out = Linear(channels, inner_dim), Linear(inner_dim, channels)
        self.transformer_blocks = module_list(
            BasicTransformerBlock(inner_dim, num_heads, head_dim, None, attends_twice=True) for _ in range(num_layers)
        )

    def forward(
        self,
        hidden_states: Tensor,  # (batch * frames, channels, height, width)
        given: Conditions,
    ) -> Tensor:  # (batch * frames, channels, height, width)
        videos = self.norm(as_videos(hidden_states, given.num_frames))
        batch, _, _, height, width = videos.shape
        tokens = self.proj_in(videos.permute(0, 3, 4, 2, 1).flatten(0, 2))  # (batch * positions, frames, inner_dim)
        # Neither the prompt nor masks of a picture's positions say anything about frames.
        alone = Conditions(given.temb, cross_attention_kwargs=given.cross_attention_kwargs)
        for block in self.transformer_blocks:
            tokens = block(tokens, alone)
        videos = self.proj_out(tokens).unflatten(0, (batch, height, width))  # (batch, height, width, frames, channels)
        return hidden_states + videos.permute(0, 3, 4, 1, 2).flatten(0, 1)


TEMPORAL_CALLS: dict[str, Call] = {
    "temp_convs": lambda conv, hidden_states, given: conv(hidden_states, given.num_frames),
    "temp_attentions": lambda attention, hidden_states, given: attention(hidden_states, given),
}
"""How these parts are called as columns of a U-Net's blocks."""
