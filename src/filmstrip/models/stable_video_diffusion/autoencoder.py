"""The autoencoder of Stable Video Diffusion: Stable Diffusion's encoder, and a decoder that sees all frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.memory.coding import Coding, Way, half_settings, whole_setting
from filmstrip.models.stable_diffusion.autoencoder import DOWN_BLOCK, PictureAutoencoder
from filmstrip.models.stable_diffusion.autoencoder_coders import Encoder
from filmstrip.models.stable_video_diffusion.autoencoder_decoder import TemporalDecoder
from filmstrip.models.stable_video_diffusion.temporal import GROUPS
from filmstrip.outputs import SampleOutput
from filmstrip.randomness import Generators

# What configurations do not say, since published networks have it in one way only.
FIXED = {"norm_num_groups": GROUPS, "act_fn": "silu", "mid_block_add_attention": True}


class AutoencoderKLTemporalDecoder(PictureAutoencoder):
    """Compresses pictures to latents each for itself, and makes a video of the latents of its frames.

    Pictures are (batch, 3, height, width) in [-1, 1]; their latents are (batch, latent_channels, height / ratio,
    width / ratio), where the ratio doubles with each of `block_out_channels` but the first. The frames of videos are
    folded into the batch. Norms of the decoder take their statistics from all frames that are decoded together: how
    many these are, belongs to what is computed. By default they are all frames of a video, and videos never mix.

    Args: those of the published `config.json`. Pipelines read `scaling_factor` and `force_upcast` from the config; the
        network itself does not scale.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: Sequence[str] = (DOWN_BLOCK,),
        block_out_channels: Sequence[int] = (64,),
        layers_per_block: int = 1,
        latent_channels: int = 4,
        sample_size: int = 32,
        scaling_factor: float = 0.18215,
        force_upcast: bool = True,
    ) -> None:
        super().__init__()
        if tuple(down_block_types) != (DOWN_BLOCK,) * len(block_out_channels):
            given = list(down_block_types)
            raise ValueError(
                f"down_block_types must be {DOWN_BLOCK!r}, once for each of block_out_channels, got {given}."
            )
        self.spatial_compression_ratio = 2 ** (len(block_out_channels) - 1)
        config = Config({**self.config, **FIXED})
        self.encoder = Encoder(config)
        self.decoder = TemporalDecoder(config)
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.coding = Coding(tile=(sample_size, sample_size), frame_tile=(8, 8)).with_overlap((0.25, 0.25))

    use_framewise_decoding = whole_setting("is_framewise_decoding")
    tile_sample_min_num_frames, tile_sample_stride_num_frames = half_settings("frame_tile")

    def in_chunks(self, num_frames: int, overlap: int = 0, coding: Coding | None = None) -> Coding:
        """The coding that decodes so many frames at a time, each time with some more on either side to look at.

        Args:
            coding: what it is otherwise; None: as the autoencoder is set.
        """
        frame_tile = (num_frames + 2 * overlap, num_frames)
        return replace(coding or self.coding, is_framewise_decoding=True, frame_tile=frame_tile)

    def decoding_ways(self) -> Iterator[Way]:
        """All frames of a video together; then in tiles, too, of a half to a sixth of the sides it was made for."""
        coding = replace(self.coding, is_framewise_decoding=False)
        yield Way("all frames of a video together", replace(coding, is_tiled=False))
        for way in self._tile_ways((self.config.sample_size,) * 2, (2, 3, 4, 6)):
            assert way.coding is not None
            yield replace(way, coding=replace(way.coding, is_framewise_decoding=False))

    def decode(
        self, z: Tensor, num_frames: int, return_dict: bool = True, coding: Coding | None = None
    ) -> SampleOutput | tuple[Tensor]:
        """The frames that latents stand for, (batch * frames, out_channels, height, width).

        Args:
            z: (batch * frames, latent_channels, latent height, latent width).
            num_frames: of each video.
            coding: in which portions; None: as the autoencoder is set.
        """
        coding = coding or self.coding
        frames = torch.cat([run for video in self._videos(z, num_frames) for run in self._runs(video, coding)])
        return SampleOutput(frames) if return_dict else (frames,)

    def decode_stream(self, z: Tensor, num_frames: int, coding: Coding | None = None) -> Iterator[Tensor]:
        """Yield the videos of `decode` in runs of frames, (batch, out_channels, frames, height, width)."""
        coding = coding or self.coding
        runs = [self._runs(video, coding) for video in self._videos(z, num_frames)]
        return (torch.stack(parts).transpose(1, 2) for parts in zip(*runs, strict=True))

    def forward(
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: Generators = None,
        num_frames: int = 1,
    ) -> SampleOutput | tuple[Tensor]:
        """Encode pictures and decode them as videos."""
        return self.decode(self._latents(sample, sample_posterior, generator), num_frames, return_dict)

    @staticmethod
    def _videos(z: Tensor, num_frames: int) -> Sequence[Tensor]:
        if len(z) % num_frames:
            raise ValueError(f"{len(z)} latents make no whole number of videos of {num_frames} frames; give all.")
        return z.split(num_frames)

    def _runs(self, video: Tensor, coding: Coding) -> Iterator[Tensor]:
        """Yield the frames of one video, (frames, out_channels, height, width), as many at a time as go together."""
        total, (size, stride) = len(video), coding.frame_tile
        if not coding.is_framewise_decoding:
            size = stride = total
        around = (size - stride) // 2
        for start in range(0, total, stride):
            first, stop = max(0, start - around), min(start + stride, total)
            frames = self._in_tiles(self.decoder, video[first : stop + around], coding)
            yield frames[start - first : stop - first].contiguous()
