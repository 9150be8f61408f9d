"""The U-Net of I2VGen-XL (arXiv:2311.04145), which sees a picture in three ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.kernels.layers import Linear
from filmstrip.nn.attention_layers import Attention
from filmstrip.nn.embeddings import ConditionedEmbedding, sinusoidal_embedding
from filmstrip.nn.feed_forward import FeedForward
from filmstrip.nn.temporal import as_frames, as_videos
from filmstrip.nn.unet import Conditions
from filmstrip.nn.video_unet import DOWN_BLOCKS, UP_BLOCKS, Layers, VideoUNet
from filmstrip.outputs import SampleOutput

# Channels of the picture's latents.
PICTURE_CHANNELS = 4
# Rows and columns that the picture's latents are averaged to before they become tokens.
POOLED = 32


class PictureEncoder(nn.Module):
    """Attention along time and a feed-forward, over a few channels: what a picture's latents say about each frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, None, heads=2, dim_head=dim)
        self.ff = FeedForward(dim, activation_fn="gelu")

    def forward(
        self,
        videos: Tensor,  # (batch, dim, frames, height, width)
    ) -> Tensor:  # (batch, dim, frames, height, width)
        batch, _, _, height, width = videos.shape
        tokens = videos.permute(0, 3, 4, 2, 1).flatten(0, 2)  # (batch * positions, frames, dim)
        tokens = tokens + self.attn1(self.norm1(tokens))
        tokens = tokens + self.ff(tokens)
        return tokens.unflatten(0, (batch, height, width)).permute(0, 4, 3, 1, 2)


class I2VGenXLUNet(VideoUNet):
    """Predicts noise or v of video latents from their noisy state, the timestep, a prompt, a rate and a picture.

    Args: those of the published `config.json`. `attention_head_dim` is the width of a head, as its name says, for which
        the first files have `num_attention_heads`.
    """

    keep_precise: ClassVar[tuple[str, ...]] = (
        *VideoUNet.keep_precise,
        "^fps_embedding",
        "^context_embedding",
        "^image_latents_",
    )

    def __init__(
        self,
        sample_size: int | Sequence[int] | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
        down_block_types: Sequence[str] = (*[DOWN_BLOCKS[0]] * 3, DOWN_BLOCKS[1]),
        up_block_types: Sequence[str] = (UP_BLOCKS[1], *[UP_BLOCKS[0]] * 3),
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        cross_attention_dim: int = 1024,
        attention_head_dim: int = 64,
        num_attention_heads: int | None = None,
    ) -> None:
        super().__init__()
        if num_attention_heads not in (None, attention_head_dim):
            raise ValueError(
                f"num_attention_heads ({num_attention_heads}) is another name of attention_head_dim"
                f" ({attention_head_dim}), the width of a head; leave it out."
            )
        width = block_out_channels[0]
        temb_channels = 4 * width
        self.image_latents_proj_in = nn.Sequential(
            nn.Conv2d(PICTURE_CHANNELS, 4 * in_channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(4 * in_channels, 4 * in_channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(4 * in_channels, in_channels, 3, padding=1),
        )
        self.image_latents_temporal_encoder = PictureEncoder(in_channels)
        self.image_latents_context_embedding = nn.Sequential(
            nn.Conv2d(PICTURE_CHANNELS, 8 * in_channels, 3, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(POOLED),
            nn.Conv2d(8 * in_channels, 16 * in_channels, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(16 * in_channels, cross_attention_dim, 3, stride=2, padding=1),
        )
        self.context_embedding = _two_layers(cross_attention_dim, temb_channels, cross_attention_dim * in_channels)
        self.time_embedding = ConditionedEmbedding(width, temb_channels, F.silu, None)
        self.fps_embedding = _two_layers(width, temb_channels, temb_channels)
        self.build(
            Layers(temb_channels, cross_attention_dim, attention_head_dim, norm_num_groups),
            2 * in_channels,  # noisy latents, and what the picture's say about each frame
            out_channels,
            block_out_channels,
            layers_per_block,
            down_block_types,
            up_block_types,
        )

    def forward(
        self,
        sample: Tensor,  # (batch, in_channels, frames, height, width)
        timestep: Tensor | float,  # one, or (batch,)
        fps: Tensor | float,  # one, or (batch,)
        image_latents: Tensor,  # (batch, 4, frames, height, width)
        image_embeddings: Tensor,  # (batch, 1, cross_attention_dim)
        encoder_hidden_states: Tensor,  # (batch, prompt_tokens, cross_attention_dim)
        timestep_cond: Tensor | None = None,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        return_dict: bool = True,
    ) -> SampleOutput | tuple[Tensor]:  # (batch, out_channels, frames, height, width)
        """Predict noise or v, whichever the checkpoint's scheduler expects.

        Args:
            fps: frames of the video in a second.
            image_latents: the picture's latents as the first frame; then frames of one value, their place from 0 to 1.
            image_embeddings: of the picture as a whole, from an image encoder.
            cross_attention_kwargs: handed to the processors of attention layers.

        Raises:
            ValueError: timestep_cond is given, which has no effect on this network.
        """
        # Waves are computed in float32: neighbouring timesteps would coincide in half precision.
        waves, rates = (
            sinusoidal_embedding(
                torch.as_tensor(one, device=sample.device).expand(len(sample)), self.config.block_out_channels[0]
            ).to(sample.dtype)
            for one in (timestep, fps)
        )
        temb = self.time_embedding(waves, timestep_cond) + self.fps_embedding(rates)  # (batch, temb_channels)
        num_frames = sample.shape[2]
        given = Conditions(
            temb.repeat_interleave(num_frames, 0),
            torch.cat([encoder_hidden_states, *self._picture_tokens(image_latents, image_embeddings)], dim=1),
            cross_attention_kwargs=cross_attention_kwargs or {},
            num_frames=num_frames,
        )
        pictures = as_videos(self.image_latents_proj_in(as_frames(image_latents)), num_frames)
        stacked = torch.cat([sample, self.image_latents_temporal_encoder(pictures)], dim=1)
        predicted = self.predicted(stacked, given)
        return SampleOutput(predicted) if return_dict else (predicted,)

    def _picture_tokens(self, image_latents: Tensor, image_embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """What blocks attend to beside the prompt: 64 tokens of the picture's latents, and one for each channel."""
        tokens = self.image_latents_context_embedding(image_latents[:, :, 0]).flatten(2).transpose(1, 2)
        whole = self.context_embedding(image_embeddings).flatten(1).unflatten(1, (self.config.in_channels, -1))
        return tokens, whole


def _two_layers(in_channels: int, dim: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(Linear(in_channels, dim), nn.SiLU(), Linear(dim, out_channels))
