"""The video autoencoder of CogVideoX (arXiv:2408.06072, section 2.1), versions 1.0 and 1.5."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import count

import torch
from torch import Tensor, nn

from filmstrip.memory.coding import Coding, Way, half_settings, overlap_settings, tile_settings
from filmstrip.memory.tiling import Tile, exceeds, tiled_in_space
from filmstrip.models.cogvideox.autoencoder_coders import CogVideoXDecoder3D, CogVideoXEncoder3D
from filmstrip.nn.autoencoder import Autoencoder, check_block_types
from filmstrip.nn.streaming import FrameStream
from filmstrip.outputs import SampleOutput

DOWN_BLOCK, UP_BLOCK = "CogVideoXDownBlock3D", "CogVideoXUpBlock3D"

# Turns one chunk of a video or of a tile, whose past is in the stream.
Coder = Callable[[Tensor, FrameStream], Tensor]


class AutoencoderKLCogVideoX(Autoencoder):
    """Compresses video to latents and back, a few frames at a time.

    A video is (batch, 3, frames, height, width) in [-1, 1]; its latents are (batch, latent_channels,
    (frames - 1) / temporal_compression_ratio + 1, height / spatial_compression_ratio, width / ...). Norms take their
    statistics from the chunk of frames at hand, so the lengths of chunks belong to the model:
    `num_latent_frames_batch_size` and `num_sample_frames_batch_size` are settings of the object.

    Args: those of the published `config.json`. Pipelines read `scaling_factor`, `shift_factor`, `latents_mean`,
        `latents_std` and `invert_scale_latents` from the config; the network itself does not scale.
    """

    sets_latent_tiles = True
    computing_methods = ("encode", "decode", "encode_stream", "decode_stream")
    keep_precise = ("norm", r"coder\.conv_in", r"coder\.conv_out")

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: Sequence[str] = (DOWN_BLOCK,) * 4,
        up_block_types: Sequence[str] = (UP_BLOCK,) * 4,
        block_out_channels: Sequence[int] = (128, 256, 256, 512),
        latent_channels: int = 16,
        layers_per_block: int = 3,
        act_fn: str = "silu",
        norm_eps: float = 1e-6,
        norm_num_groups: int = 32,
        temporal_compression_ratio: float = 4,
        sample_height: int = 480,
        sample_width: int = 720,
        scaling_factor: float = 1.15258426,
        shift_factor: float | None = None,
        latents_mean: Sequence[float] | None = None,
        latents_std: Sequence[float] | None = None,
        force_upcast: bool = True,
        use_quant_conv: bool = False,
        use_post_quant_conv: bool = False,
        invert_scale_latents: bool = False,
    ) -> None:
        super().__init__()
        check_block_types(self.config, DOWN_BLOCK, UP_BLOCK)
        self.spatial_compression_ratio = 2 ** (len(block_out_channels) - 1)
        self.temporal_compression_ratio = int(temporal_compression_ratio)
        time_halvings = int(math.log2(temporal_compression_ratio))
        self.encoder = CogVideoXEncoder3D(self.config, time_halvings)
        self.decoder = CogVideoXDecoder3D(self.config, time_halvings)
        self.quant_conv = nn.Conv3d(2 * latent_channels, 2 * latent_channels, 1) if use_quant_conv else None
        self.post_quant_conv = nn.Conv3d(latent_channels, latent_channels, 1) if use_post_quant_conv else None

        # The first chunk also takes the frames that are left over.
        coding = Coding(tile=(sample_height // 2, sample_width // 2), chunk=(8, 2))
        self.coding = coding.with_overlap((1 / 6, 1 / 5))

    num_sample_frames_batch_size, num_latent_frames_batch_size = half_settings("chunk")
    tile_sample_min_height, tile_sample_min_width = tile_settings()
    tile_latent_min_height, tile_latent_min_width = half_settings("latent_tile")
    tile_overlap_factor_height, tile_overlap_factor_width = overlap_settings()

    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        tile_overlap_factor_height: float | None = None,
        tile_overlap_factor_width: float | None = None,
    ) -> None:
        """Code pictures larger than a tile in overlapping tiles; None keeps a setting.

        Tiles differ from the undivided result: each has its own statistics and its own borders.

        Args:
            tile_sample_min_height, tile_sample_min_width: a tile's size in pixels.
            tile_overlap_factor_height, tile_overlap_factor_width: the share of a tile, below 1, that overlaps the next.
        """
        self.set_tiles(
            tile_sample_min_height=tile_sample_min_height,
            tile_sample_min_width=tile_sample_min_width,
            tile_overlap_factor_height=tile_overlap_factor_height,
            tile_overlap_factor_width=tile_overlap_factor_width,
        )
        self.coding = replace(self.coding, latent_tile=None)

    def decoding_ways(self) -> Iterator[Way]:
        """Whole pictures; in tiles of a half, a quarter and an eighth of the sides that the model was made for."""
        yield Way("in chunks of whole pictures", replace(self.coding, is_tiled=False))
        yield from self._tile_ways((self.config.sample_height, self.config.sample_width), (2, 4, 8))

    def decode(self, z: Tensor, return_dict: bool = True, coding: Coding | None = None) -> SampleOutput | tuple[Tensor]:
        """The video that latents stand for.

        Args:
            coding: in which portions; None: as the autoencoder is set.
        """
        coding = coding or self.coding
        videos = [
            _joined(self._decode_chunk, part, coding.chunk[1], self._decoder_tiles(part, coding))
            for part in self._slices(z, coding)
        ]
        video = torch.cat(videos)
        return SampleOutput(video) if return_dict else (video,)

    def encode_stream(self, x: Tensor, coding: Coding | None = None) -> Iterator[Tensor]:
        """Yield the moments that `encode` finds, chunk after chunk, in memory that does not grow with the length."""
        coding = coding or self.coding
        tiles = self._encoder_tiles(x, coding)
        return _stream(self._encode_chunk, self._slices(x, coding), coding.chunk[0], tiles)

    def decode_stream(self, z: Tensor, coding: Coding | None = None) -> Iterator[Tensor]:
        """Yield the video of `decode`, chunk after chunk, in memory that does not grow with its length.

        With tiling on, all tiles of a chunk come before the next chunk: the past of every tile is kept, where `decode`
        keeps that of one tile and the decoded tiles of the whole video.
        """
        coding = coding or self.coding
        tiles = self._decoder_tiles(z, coding)
        return _stream(self._decode_chunk, self._slices(z, coding), coding.chunk[1], tiles)

    def _encode(self, part: Tensor, coding: Coding) -> Tensor:
        return _joined(self._encode_chunk, part, coding.chunk[0], self._encoder_tiles(part, coding))

    def _encode_chunk(self, video: Tensor, stream: FrameStream) -> Tensor:
        moments = self.encoder(video, stream)
        return moments if self.quant_conv is None else self.quant_conv(moments)

    def _decode_chunk(self, latents: Tensor, stream: FrameStream) -> Tensor:
        return self.decoder(latents if self.post_quant_conv is None else self.post_quant_conv(latents), stream)

    def _encoder_tiles(self, video: Tensor, coding: Coding) -> Tiles | None:
        rows, columns = coding.tile
        ratio = self.spatial_compression_ratio
        strides = _latent_strides((rows / ratio, columns / ratio), coding)
        tiles = Tile(rows, strides[0] * ratio), Tile(columns, strides[1] * ratio)
        return (*tiles, Fraction(1, ratio)) if coding.is_tiled and exceeds(video, tiles) else None

    def _decoder_tiles(self, latents: Tensor, coding: Coding) -> Tiles | None:
        ratio = self.spatial_compression_ratio
        rows, columns = coding.latents_of_tile(ratio)
        # A tile of pixels need not be a whole number of latents; its overlap is a share of all of it.
        sizes = [
            sample / ratio if sample // ratio == latent else latent
            for sample, latent in zip(coding.tile, (rows, columns), strict=True)
        ]
        strides = _latent_strides(sizes, coding)
        tiles = Tile(rows, strides[0]), Tile(columns, strides[1])
        return (*tiles, Fraction(ratio)) if coding.is_tiled and exceeds(latents, tiles) else None


# Rows and columns of a tile, and output pixels for an input pixel.
Tiles = tuple[Tile, Tile, Fraction]


def _latent_strides(tile: Sequence[float], coding: Coding) -> tuple[int, int]:
    """Steps between tiles, in whole latents, so that tiles of pixels and of latents lie at the same places."""
    # Rounded first: 30 * (1 - 0.9) is a little less than 3.
    rows, columns = (
        max(1, math.floor(round(size * (1 - overlap), 6))) for size, overlap in zip(tile, coding.overlap, strict=True)
    )
    return rows, columns


def _stream(code: Coder, videos: Sequence[Tensor], frames: int, tiles: Tiles | None) -> Iterator[Tensor]:
    runs = [_chunk_by_chunk(code, video, frames, tiles) for video in videos]
    return (torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*runs, strict=True))


def _chunks(video: Tensor, frames: int) -> Iterator[Tensor]:
    """Runs of `frames` frames; the first also takes those that are left over."""
    first = min(video.shape[2], frames + video.shape[2] % frames)
    yield video[:, :, :first]
    yield from video[:, :, first:].split(frames, dim=2) if video.shape[2] > first else ()


def _chunk_by_chunk(code: Coder, video: Tensor, frames: int, tiles: Tiles | None) -> Iterator[Tensor]:
    streams: defaultdict[int, FrameStream] = defaultdict(FrameStream)
    for chunk in _chunks(video, frames):
        if tiles is None:
            yield code(chunk, streams[0])
        else:
            places = count()
            yield tiled_in_space(lambda tile: code(tile, streams[next(places)]), chunk, *tiles)  # noqa: B023


def _joined(code: Coder, video: Tensor, frames: int, tiles: Tiles | None) -> Tensor:
    def whole(video: Tensor) -> Tensor:
        return torch.cat(list(_chunk_by_chunk(code, video, frames, None)), dim=2)

    return whole(video) if tiles is None else tiled_in_space(whole, video, *tiles)
