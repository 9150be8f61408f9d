"""The image autoencoder of Stable Diffusion (arXiv:2112.10752, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor, nn

from filmstrip.kernels.plain import is_free
from filmstrip.kernels.valueless import is_on_cpu
from filmstrip.memory.coding import Coding, Way, half_settings, overlap_settings, square, tile_settings
from filmstrip.memory.tiling import Coder, Tile, Tiles, exceeds, tiled_in_space
from filmstrip.models.stable_diffusion.autoencoder_coders import Decoder, Encoder
from filmstrip.nn.attention_layers import AttentionModel
from filmstrip.nn.autoencoder import Autoencoder, check_block_types
from filmstrip.outputs import SampleOutput
from filmstrip.randomness import Generators

DOWN_BLOCK, UP_BLOCK = "DownEncoderBlock2D", "UpDecoderBlock2D"
# Pixels that an accelerator codes together where nothing is recorded; a CPU takes one picture after the other.
PIXELS_AT_ONCE = 2**20


class PictureAutoencoder(Autoencoder, AttentionModel):
    """What autoencoders have in common that encode pictures each for itself, whatever their decoders are."""

    sets_latent_tiles = True
    computing_methods = ("encode", "decode", "decode_stream")
    keep_precise = ("norm", r"coder\.conv_in$", r"coder\.conv_out$", "quant_conv$")
    encoder: Encoder
    quant_conv: nn.Conv2d | None

    tile_sample_min_size = square(tile_settings())
    tile_latent_min_size = square(half_settings("latent_tile"))
    tile_overlap_factor = square(overlap_settings())

    def enable_tiling(self, tile_sample_min_size: int | None = None, tile_overlap_factor: float | None = None) -> None:
        """Code pictures larger than a tile in overlapping tiles; None keeps a setting.

        Tiles differ from the undivided result: each has its own statistics and its own borders.

        Args:
            tile_sample_min_size: a tile's sides in pixels.
            tile_overlap_factor: the share of a tile, below 1, that overlaps the next.
        """
        latents = None if tile_sample_min_size is None else tile_sample_min_size // self.spatial_compression_ratio
        self.set_tiles(
            tile_sample_min_size=tile_sample_min_size,
            tile_latent_min_size=latents,
            tile_overlap_factor=tile_overlap_factor,
        )

    def _slices(self, batch: Tensor, coding: Coding) -> Sequence[Tensor]:
        return batch.split(_pictures_at_once(batch, batch.shape[2] * batch.shape[3], coding))

    def _encode(self, part: Tensor, coding: Coding) -> Tensor:
        ratio = self.spatial_compression_ratio
        tiles = _tiles(coding.tile, ratio, coding)
        if not coding.is_tiled or not exceeds(part, tiles):
            return self._encode_tile(part)
        return tiled_in_space(self._encode_tile, part, *tiles, Fraction(1, ratio))

    def _encode_tile(self, pictures: Tensor) -> Tensor:
        moments = self.encoder(pictures)
        return moments if self.quant_conv is None else self.quant_conv(moments)

    def _in_tiles(self, decode: Coder, latents: Tensor, coding: Coding) -> Tensor:
        """What `decode` makes of pictures' latents, whole or in tiles as the coding says."""
        ratio = self.spatial_compression_ratio
        tiles = _tiles(coding.latents_of_tile(ratio), 1, coding)
        if not coding.is_tiled or not exceeds(latents, tiles):
            return decode(latents)
        return tiled_in_space(decode, latents, *tiles, Fraction(ratio))


class AutoencoderKL(PictureAutoencoder):
    """Compresses pictures to latents and back, each for itself.

    Pictures are (batch, 3, height, width) in [-1, 1]; their latents are (batch, latent_channels, height / ratio,
    width / ratio), where the ratio doubles with each of `block_out_channels` but the first. Where nothing is recorded
    the pictures of a batch are coded a few at a time, in the memory that those few need; results are the same.

    Args: those of the published `config.json`. Pipelines read `scaling_factor`, `shift_factor`, `latents_mean`,
        `latents_std` and `force_upcast` from the config; the network itself does not scale.
    """

    # Files written before 2023-05 name the projections of the attention otherwise.
    renamed_keys = (
        (r"(\.attentions\.0\.)query\.", r"\1to_q."),
        (r"(\.attentions\.0\.)key\.", r"\1to_k."),
        (r"(\.attentions\.0\.)value\.", r"\1to_v."),
        (r"(\.attentions\.0\.)proj_attn\.", r"\1to_out.0."),
    )

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: Sequence[str] = (DOWN_BLOCK,),
        up_block_types: Sequence[str] = (UP_BLOCK,),
        block_out_channels: Sequence[int] = (64,),
        layers_per_block: int = 1,
        act_fn: str = "silu",
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        sample_size: int | Sequence[int] = 32,
        scaling_factor: float = 0.18215,
        shift_factor: float | None = None,
        latents_mean: Sequence[float] | None = None,
        latents_std: Sequence[float] | None = None,
        force_upcast: bool = True,
        use_quant_conv: bool = True,
        use_post_quant_conv: bool = True,
        mid_block_add_attention: bool = True,
    ) -> None:
        super().__init__()
        check_block_types(self.config, DOWN_BLOCK, UP_BLOCK)
        self.spatial_compression_ratio = 2 ** (len(block_out_channels) - 1)
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1) if use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1) if use_post_quant_conv else None

        side = sample_size if isinstance(sample_size, int) else sample_size[0]
        self.coding = Coding(tile=(side, side)).with_overlap((0.25, 0.25))

    def decoding_ways(self) -> Iterator[Way]:
        """A few pictures at a time; one; in tiles of the size that the model was made for, a half and a quarter."""
        yield Way("a few pictures at a time", replace(self.coding, is_sliced=False, is_tiled=False))
        yield Way("one picture at a time", replace(self.coding, is_sliced=True, is_tiled=False))
        side = self.config.sample_size if isinstance(self.config.sample_size, int) else self.config.sample_size[0]
        yield from self._tile_ways((side, side), (1, 2, 4))

    def decode(
        self, z: Tensor, return_dict: bool = True, generator: Generators = None, coding: Coding | None = None
    ) -> SampleOutput | tuple[Tensor]:
        """The pictures that latents stand for.

        Args:
            generator: taken from code written for Diffusers, and without effect: nothing is drawn.
            coding: in which portions; None: as the autoencoder is set.
        """
        parts = list(self.decode_stream(z, coding))
        pictures = torch.cat(parts) if len(parts) > 1 else parts[0]
        return SampleOutput(pictures) if return_dict else (pictures,)

    def decode_stream(self, z: Tensor, coding: Coding | None = None) -> Iterator[Tensor]:
        """Yield the pictures of `decode` a few at a time, in the memory that those few need."""
        coding = coding or self.coding
        pixels = z.shape[2] * z.shape[3] * self.spatial_compression_ratio**2
        parts = z.split(_pictures_at_once(z, pixels, coding))
        return (self._in_tiles(self._decode_tile, part, coding) for part in parts)

    def _decode_tile(self, latents: Tensor) -> Tensor:
        return self.decoder(latents if self.post_quant_conv is None else self.post_quant_conv(latents)).contiguous()


def _pictures_at_once(batch: Tensor, pixels: int, coding: Coding) -> int:
    if coding.is_sliced or (is_free() and is_on_cpu(batch)):
        return 1
    return max(1, PIXELS_AT_ONCE // pixels) if is_free() else len(batch)


def _tiles(sizes: tuple[int, int], unit: int, coding: Coding) -> Tiles:
    """Rows and columns of a tile, in units of which a latent has so many."""
    # Steps between tiles are whole latents, so that tiles of pixels and of latents lie at the same places.
    rows, columns = (
        Tile(size, max(1, int(size // unit * (1 - overlap))) * unit)
        for size, overlap in zip(sizes, coding.overlap, strict=True)
    )
    return rows, columns
