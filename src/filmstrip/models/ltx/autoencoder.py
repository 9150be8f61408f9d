"""The video autoencoder of LTX-Video (arXiv:2501.00103, section 2.1), versions 0.9.0 to 0.9.8."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from filmstrip.memory.coding import Coding, Way, half_settings, tile_way, whole_setting
from filmstrip.memory.tiling import Coder, Tile, Tiles, exceeds, tiled_in_space, tiled_in_time
from filmstrip.models.ltx.autoencoder_blocks import Stage
from filmstrip.models.ltx.autoencoder_coders import LTXVideoDecoder3d, LTXVideoEncoder3d
from filmstrip.nn.autoencoder import Autoencoder
from filmstrip.nn.streaming import joined_stages, run_stages
from filmstrip.outputs import SampleOutput
from filmstrip.randomness import Generators

FOUR_BLOCKS = ("LTXVideoDownBlock3D",) * 4


class AutoencoderKLLTXVideo(Autoencoder):
    """Compresses video to latents and back.

    A video is (batch, 3, frames, height, width) in [-1, 1]; its latents are (batch, latent_channels,
    (frames - 1) / temporal_compression_ratio + 1, height / spatial_compression_ratio, width / ...).

    Args: those of the published `config.json`; the compression ratios follow from the rest where a file lacks them.
    """

    computing_methods = ("encode", "decode", "encode_stream", "decode_stream")
    keep_precise = ("norm", r"coder\.conv_in", r"coder\.conv_out", "time_embedder")

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 128,
        block_out_channels: Sequence[int] = (128, 256, 512, 512),
        down_block_types: Sequence[str] = FOUR_BLOCKS,
        decoder_block_out_channels: Sequence[int] = (128, 256, 512, 512),
        layers_per_block: Sequence[int] = (4, 3, 3, 3, 4),
        decoder_layers_per_block: Sequence[int] = (4, 3, 3, 3, 4),
        spatio_temporal_scaling: Sequence[bool] = (True, True, True, False),
        decoder_spatio_temporal_scaling: Sequence[bool] = (True, True, True, False),
        decoder_inject_noise: Sequence[bool] = (False, False, False, False, False),
        downsample_type: Sequence[str] = ("conv", "conv", "conv", "conv"),
        upsample_residual: Sequence[bool] = (False, False, False, False),
        upsample_factor: Sequence[int] = (1, 1, 1, 1),
        timestep_conditioning: bool = False,
        patch_size: int = 4,
        patch_size_t: int = 1,
        resnet_norm_eps: float = 1e-6,
        scaling_factor: float = 1.0,
        encoder_causal: bool = True,
        decoder_causal: bool = False,
        spatial_compression_ratio: int | None = None,
        temporal_compression_ratio: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = LTXVideoEncoder3d(self.config)
        self.decoder = LTXVideoDecoder3d(self.config)
        self.latents_mean: Tensor
        self.latents_std: Tensor
        self.register_buffer("latents_mean", torch.zeros(latent_channels))
        self.register_buffer("latents_std", torch.ones(latent_channels))

        halvings = 2 ** sum(spatio_temporal_scaling)
        self.spatial_compression_ratio = spatial_compression_ratio or patch_size * halvings
        self.temporal_compression_ratio = temporal_compression_ratio or patch_size_t * halvings

        # Settings of tiles are those that `enable_tiling` takes.
        self.coding = Coding(tile=(512, 512), stride=(448, 448), frame_tile=(16, 8), frames_at_once=8)

    frames_at_once = whole_setting("frames_at_once")
    use_framewise_encoding = whole_setting("is_framewise_encoding")
    use_framewise_decoding = whole_setting("is_framewise_decoding")
    tile_sample_min_height, tile_sample_min_width = half_settings("tile")
    tile_sample_stride_height, tile_sample_stride_width = half_settings("stride")
    tile_sample_min_num_frames, tile_sample_stride_num_frames = half_settings("frame_tile")

    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        tile_sample_min_num_frames: int | None = None,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
        tile_sample_stride_num_frames: int | None = None,
    ) -> None:
        """Code pictures larger than a tile in overlapping tiles, each setting in pixels or frames; None keeps it.

        Tiles differ slightly from the undivided result near their seams: the network's reach is larger than the
        overlap. Frames are cut only where `use_framewise_encoding` or `use_framewise_decoding` is set as well.
        """
        self.set_tiles(
            tile_sample_min_height=tile_sample_min_height,
            tile_sample_min_width=tile_sample_min_width,
            tile_sample_min_num_frames=tile_sample_min_num_frames,
            tile_sample_stride_height=tile_sample_stride_height,
            tile_sample_stride_width=tile_sample_stride_width,
            tile_sample_stride_num_frames=tile_sample_stride_num_frames,
        )

    def decoding_ways(self) -> Iterator[Way]:
        """Whole; as a stream, with the same result; in tiles of so many latents, each of them as a stream."""
        for frames in (None, 8, 2):
            name = "whole" if frames is None else f"in chunks of {frames} frames"
            yield Way(name, replace(self.coding, frames_at_once=frames, is_tiled=False))
        for size, stride in ((16, 12), (8, 6), (4, 2)):
            pixels, step = (size * self.spatial_compression_ratio,) * 2, (stride * self.spatial_compression_ratio,) * 2
            coding = replace(self.coding, is_tiled=True, is_sliced=True, tile=pixels, stride=step, frames_at_once=2)
            yield tile_way(pixels, step, coding)

    def decode(
        self,
        z: Tensor,
        temb: Tensor | None = None,
        return_dict: bool = True,
        generator: Generators = None,
        coding: Coding | None = None,
    ) -> SampleOutput | tuple[Tensor]:
        """The video that latents stand for.

        Args:
            temb: (batch,), the timestep in [0, 1] that a timestep-conditioned decoder finishes from.
            generator: source of the noise that some decoders inject; one, or a list with one for each video.
            coding: in which portions; None: as the autoencoder is set.
        """
        coding = coding or self.coding
        slices = _slices(z, temb, generator, is_sliced=coding.is_sliced)
        parts = [self._decode(*part, coding) for part in slices]
        video = torch.cat(parts) if len(parts) > 1 else parts[0]
        return SampleOutput(video) if return_dict else (video,)

    def decode_stream(
        self,
        z: Tensor,
        temb: Tensor | None = None,
        generator: Generators = None,
        coding: Coding | None = None,
    ) -> Iterator[Tensor]:
        """Yield the video of `decode` in runs of frames, in memory that does not grow with its length.

        The network only looks a few frames around and normalises each position alone, so the joined runs equal the
        whole. Tiles and overlapping runs of frames are blended first, so that there is one run.
        """
        coding = coding or self.coding
        is_tiled = coding.is_tiled and exceeds(z, self._tiles(coding))
        if is_tiled or coding.is_framewise_decoding or coding.frames_at_once is None:
            yield self.decode(z, temb, return_dict=False, generator=generator, coding=coding)[0]
            return
        runs = []
        for latents, timestep, source in _slices(z, temb, generator, is_sliced=coding.is_sliced):
            run = run_stages(self.decoder.stages(timestep, source), [latents], coding.frames_at_once)
            runs.append(chain([next(run)], run))  # by its first frames, a run has drawn all of its noise
        for parts in zip(*runs, strict=True):
            yield torch.cat(parts) if len(parts) > 1 else parts[0]

    def encode_stream(self, x: Tensor, coding: Coding | None = None) -> Iterator[Tensor]:
        """Yield the moments that `encode` finds in runs of latent frames, in memory that does not grow with length."""
        return run_stages(self.encoder.stages(), [x], (coding or self.coding).frames_at_once or x.shape[2])

    def forward(  # type: ignore[override]  # a timestep comes second
        self,
        sample: Tensor,
        temb: Tensor | None = None,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: Generators = None,
    ) -> SampleOutput | tuple[Tensor]:
        """Encode a video and decode it again."""
        return self.decode(self._latents(sample, sample_posterior, generator), temb, return_dict, generator)

    def _encode(self, part: Tensor, coding: Coding) -> Tensor:
        ratio, ratio_t = self.spatial_compression_ratio, self.temporal_compression_ratio
        tiles: Tiles | None = None
        if coding.is_tiled and (part.shape[3] > coding.tile[0] or part.shape[4] > coding.tile[1]):
            rows, columns = (Tile(tile.size * ratio, tile.stride * ratio) for tile in self._tiles(coding))
            tiles = rows, columns
        code = _in_space(self.encoder, self.encoder.stages, coding, tiles, Fraction(1, ratio))
        if coding.is_framewise_encoding and part.shape[2] > coding.frame_tile[0]:
            frames = self._frames_tile(coding)
            frames = Tile(frames.size * ratio_t, frames.stride * ratio_t)
            return tiled_in_time(code, part, frames, Fraction(1, ratio_t), trim=slice(1, None))
        return code(part)

    def _decode(self, latents: Tensor, temb: Tensor | None, generator: Generators, coding: Coding) -> Tensor:
        ratio, ratio_t = self.spatial_compression_ratio, self.temporal_compression_ratio
        tiles = self._tiles(coding) if coding.is_tiled and exceeds(latents, self._tiles(coding)) else None
        given: dict[str, Any] = {"temb": temb, "generator": generator}
        whole, stages = partial(self.decoder, **given), partial(self.decoder.stages, **given)
        code = _in_space(whole, stages, coding, tiles, Fraction(ratio))
        frames = self._frames_tile(coding)
        if coding.is_framewise_decoding and latents.shape[2] > frames.size:
            return tiled_in_time(code, latents, frames, Fraction(ratio_t), trim=slice(None, -1))
        return code(latents)

    def _tiles(self, coding: Coding) -> Tiles:
        """Rows and columns of a tile, in latent pixels."""
        sizes, ratio = coding.latents_of_tile(self.spatial_compression_ratio), self.spatial_compression_ratio
        rows, columns = (Tile(size, int(step // ratio)) for size, step in zip(sizes, coding.stride, strict=True))
        return rows, columns

    def _frames_tile(self, coding: Coding) -> Tile:
        """A tile in time, in latent frames."""
        size, stride = coding.frame_tile
        return Tile(size // self.temporal_compression_ratio, stride // self.temporal_compression_ratio)


def _slices(
    z: Tensor, temb: Tensor | None, generator: Generators, *, is_sliced: bool
) -> Iterator[tuple[Tensor, Tensor | None, Generators]]:
    if not is_sliced or z.shape[0] == 1:
        yield z, temb, generator
        return
    state = generator.get_state() if isinstance(generator, torch.Generator) else None
    for i in range(z.shape[0]):
        if state is not None and isinstance(generator, torch.Generator):
            generator.set_state(state)  # videos that share a generator share the noise of their decoder
        timestep = None if temb is None else temb[i : i + 1]
        yield z[i : i + 1], timestep, generator[i] if isinstance(generator, list) else generator


def _in_space(
    whole: Coder, stages: Callable[[], list[Stage]], coding: Coding, tiles: Tiles | None, ratio: Fraction
) -> Coder:
    """How all rows and columns of some frames are coded: at once, or in tiles, each of them as a stream."""

    def tile(video: Tensor) -> Tensor:
        if coding.frames_at_once is None or torch.is_grad_enabled():
            return whole(video)
        return joined_stages(stages(), video, coding.frames_at_once)

    return whole if tiles is None else lambda video: tiled_in_space(tile, video, *tiles, ratio)
