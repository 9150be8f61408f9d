"""The ways in which an autoencoder can divide its decoding."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import filmstrip
from filmstrip.memory.coding import (
    Coding,
    Way,
    coding_of,
    coding_settings,
    decoding_ways,
    smaller_ways,
    tile_way,
)
from tests import tiny

MAKERS = {
    "LTX": lambda: filmstrip.AutoencoderKLLTXVideo(**tiny.LTX_AUTOENCODER),
    "CogVideoX": lambda: filmstrip.AutoencoderKLCogVideoX(**tiny.COGVIDEOX_AUTOENCODER),
    "Stable Diffusion": lambda: filmstrip.AutoencoderKL(**tiny.STABLE_DIFFUSION_AUTOENCODER),
}
over_autoencoders = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


class Divisible(SimpleNamespace):
    """An object with the settings of an autoencoder."""

    def __init__(self, at_once, tile):
        coding = Coding(frames_at_once=at_once)
        super().__init__(coding=coding if tile is None else replace(coding, is_tiled=True, tile=(tile, tile)))

    def decoding_ways(self):
        yield Way("whole", Coding(frames_at_once=None))
        yield Way("in chunks of 8 frames", Coding(frames_at_once=8))
        for side in (64, 32, 16):
            sides = (side, side)
            yield tile_way(sides, sides, Coding(frames_at_once=8, is_tiled=True, tile=sides))

    @property
    def tile_size(self):
        return self.coding.tile if self.coding.is_tiled else None


def names(ways):
    return [way.name for way in ways]


def test_what_can_not_be_divided_is_decoded_whole():
    assert names(decoding_ways(object())) == ["whole"]
    assert smaller_ways(object(), 64, 64) == ()


def test_smaller_ways_come_after_the_present_one_and_divide_something():
    tiles = ["in tiles of 64x64", "in tiles of 32x32", "in tiles of 16x16"]
    assert names(smaller_ways(Divisible(at_once=None, tile=None), 65, 10)) == ["in chunks of 8 frames", *tiles]
    assert names(smaller_ways(Divisible(at_once=8, tile=None), 64, 64)) == tiles[1:]
    assert names(smaller_ways(Divisible(at_once=8, tile=64), 100, 100)) == tiles[1:]


def test_smaller_ways_come_after_a_coding_that_is_given():
    tiles = Coding(frames_at_once=8, is_tiled=True, tile=(32, 32))
    assert names(smaller_ways(Divisible(at_once=None, tile=None), 100, 100, tiles)) == ["in tiles of 16x16"]
    own = replace(tiles, tile=(48, 48))
    assert len(smaller_ways(Divisible(at_once=None, tile=None), 100, 100, own)) == 2


def test_below_settings_of_the_users_own_there_are_smaller_tiles():
    assert names(smaller_ways(Divisible(at_once=3, tile=48), 100, 100)) == ["in tiles of 32x32", "in tiles of 16x16"]
    assert len(smaller_ways(Divisible(at_once=3, tile=None), 100, 100)) == 3


@over_autoencoders
def test_settings_are_plain_and_come_back(make):
    vae, other = make(), make()
    vae.enable_tiling()
    vae.enable_slicing()
    for way in (Way("as it is set", vae.coding), *decoding_ways(vae)):
        settings = json.loads(json.dumps(coding_settings(vae, way.coding)))
        assert coding_of(other, settings) == way.coding
    assert coding_of(other, {**coding_settings(vae), "of_another_version": 3, "training": False}) == vae.coding
    assert not other.use_tiling


def test_what_users_set_is_read_back():
    vae = MAKERS["Stable Diffusion"]()
    vae.enable_tiling(24, 0.1)
    assert (vae.tile_sample_min_size, vae.tile_latent_min_size, vae.tile_overlap_factor) == (24, 12, 0.1)
    vae.tile_sample_min_size = 40
    assert (vae.tile_sample_min_size, vae.tile_latent_min_size, vae.tile_overlap_factor) == (40, 12, 0.1)
    assert vae.tile_size == (40, 40)

    vae = MAKERS["CogVideoX"]()
    assert (vae.tile_overlap_factor_height, vae.tile_overlap_factor_width) == (1 / 6, 1 / 5)
    vae.enable_tiling(32, tile_overlap_factor_width=0.3)
    assert (vae.tile_sample_min_height, vae.tile_latent_min_height, vae.tile_sample_min_width) == (32, 4, 360)
    assert (vae.tile_overlap_factor_height, vae.tile_overlap_factor_width) == (1 / 6, 0.3)
    vae.num_latent_frames_batch_size = 3
    assert (vae.num_sample_frames_batch_size, vae.num_latent_frames_batch_size, vae.coding.chunk) == (8, 3, (8, 3))

    vae = MAKERS["LTX"]()
    vae.enable_tiling(tile_sample_min_width=64, tile_sample_stride_num_frames=4)
    vae.frames_at_once, vae.use_framewise_decoding = None, True
    assert (vae.tile_sample_min_width, vae.tile_sample_min_height, vae.tile_sample_stride_width) == (64, 512, 448)
    assert vae.coding == Coding(
        True, (512, 64), (448, 448), frame_tile=(16, 4), frames_at_once=None, is_framewise_decoding=True
    )


@over_autoencoders
@torch.no_grad()
def test_a_coding_that_is_handed_on_is_as_if_it_were_set_and_sets_nothing(make):
    vae = make().eval()
    [*_, way] = decoding_ways(vae)
    ratio, before = vae.spatial_compression_ratio, vae.coding
    side, is_video = way.tile[0] // ratio * 2 + 1, hasattr(vae, "temporal_compression_ratio")
    latents, pixels = (
        torch.randn(2, vae.config.latent_channels, side, side),
        torch.randn(2, 3, side * ratio, side * ratio),
    )
    if is_video:
        latents, pixels = latents[:, :, None], pixels[:, :, None]

    def results(**given):
        streamed = torch.cat(list(vae.decode_stream(latents, **given)), dim=2 if is_video else 0)
        return vae.decode(latents, **given).sample, vae.encode(pixels, **given).latent_dist.mean, streamed

    whole, handed = results(), results(coding=way.coding)
    assert vae.coding == before
    vae.coding = way.coding
    for one, other, undivided in zip(handed, results(), whole, strict=True):
        assert torch.equal(one, other) and not torch.allclose(one, undivided, atol=1e-5)
    assert all(torch.equal(*pair) for pair in zip(results(coding=before), whole, strict=True))


@over_autoencoders
def test_a_coding_in_pixels_alone_will_do_for_all(make):
    vae = make()
    ratio = vae.spatial_compression_ratio
    vae.coding = Coding(is_tiled=True, tile=(16 * ratio, 16 * ratio), stride=(12 * ratio, 12 * ratio))
    assert vae.tile_size == (16 * ratio, 16 * ratio)
    assert vae.coding.latents_of_tile(ratio) == (16, 16)
    assert coding_of(make(), coding_settings(vae)).tile == (16 * ratio, 16 * ratio)
