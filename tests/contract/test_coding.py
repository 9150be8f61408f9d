"""Coding in chunks and in tiles, for every autoencoder."""

import random

import pytest
import torch

import filmstrip
from filmstrip.memory.coding import coding_settings, decoding_ways
from tests.contract.registered import CASES
from tests.contract.runs import close, fresh, set_to, shared
from tests.contract.seams import border_gradient_ratio, waves
from training.shapes import clips

KINDS = {type(shared(case.name).vae).__name__: case for case in reversed(CASES)}  # the first case of each class
VISIBLE = 1.05
over_autoencoders = pytest.mark.parametrize("name", KINDS)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


class Coder:
    """An autoencoder of any kind as one of videos, with the sizes of the tiles that its network saw."""

    def __init__(self, vae):
        self.vae, self.ratio = vae, vae.spatial_compression_ratio
        self.channels = vae.config.latent_channels
        self.is_video = hasattr(vae, "temporal_compression_ratio")
        # Where frames are told from videos by their number: pictures are videos of one frame.
        self.more = {"num_frames": 1} if isinstance(vae, filmstrip.AutoencoderKLTemporalDecoder) else {}
        self.seen = []
        for network in (vae.encoder, vae.decoder):
            network.conv_in.register_forward_pre_hook(lambda _, given: self.seen.append(tuple(given[0].shape[-2:])))

    def latents(self, frames, side, seed=0):
        return waves(self.channels, frames if self.is_video else 1, side, side, 8.0, seed)

    def pixels(self, frames, side, seed=0):
        return waves(3, frames if self.is_video else 1, side, side, 16.0 * self.ratio, seed) / 2

    def decode(self, latents):
        if self.is_video:
            return torch.cat(list(self.vae.decode_stream(latents)), dim=2)
        return self.vae.decode(latents[:, :, 0], return_dict=False, **self.more)[0][:, :, None]

    def encode(self, pixels):
        found = self.vae.encode(pixels if self.is_video else pixels[:, :, 0]).latent_dist.mode()
        return found if self.is_video else found[:, :, None]


def coder_of(name):
    return Coder(fresh(KINDS[name]).vae.eval())


@over_autoencoders
def test_chunks_are_the_whole(name):
    coder = coder_of(name)
    latents = coder.latents(5, 6)
    whole = coder.vae.decode(latents if coder.is_video else latents[:, :, 0], return_dict=False, **coder.more)[0]
    whole = whole if coder.is_video else whole[:, :, None]
    ways = [way for way in decoding_ways(coder.vae) if way.tile is None]
    assert ways
    for way in ways:
        with set_to(coder.vae, way):
            close(coder.decode(latents), whole)


@over_autoencoders
def test_every_way_is_honoured_and_smaller_than_the_one_before(name):
    coder = coder_of(name)
    before, most = coding_settings(coder.vae), None
    ways = [way for way in decoding_ways(coder.vae) if way.tile is not None]
    assert len({way.tile for way in ways}) == len(ways) >= 1
    side = max(ways[0].tile) // coder.ratio * 3 // 2
    latents = coder.latents(1, side)
    whole = coder.decode(latents)
    coder.seen.clear()
    count = 1
    for way in ways:
        rows, columns = (pixels // coder.ratio for pixels in way.tile)
        with set_to(coder.vae, way):
            decoded = coder.decode(latents)
        assert decoded.shape == whole.shape
        assert max(height for height, _ in coder.seen) == rows and max(width for _, width in coder.seen) == columns
        assert len(coder.seen) > count, "more tiles than the way before"
        assert most is None or rows * columns < most
        count, most = len(coder.seen), rows * columns
        coder.seen.clear()
    assert coding_settings(coder.vae) == before


@over_autoencoders
def test_encoding_is_tiled_as_decoding_is(name):
    coder = coder_of(name)
    [*_, way] = decoding_ways(coder.vae)
    side = max(way.tile) // coder.ratio * 2 + 1
    with set_to(coder.vae, way):
        coder.decode(coder.latents(1, side))
        tiles = len(coder.seen)
        coder.seen.clear()
        found = coder.encode(coder.pixels(1, side * coder.ratio))
    assert len(coder.seen) == tiles > 1
    assert found.shape[-2:] == (side, side)


def set_tiles(vae, size, overlap=None):
    """Tiles of so many latents, which overlap by a share of their size; by the default's if None.

    Returns:
        The steps between tiles along rows and along columns, in latents.
    """
    ratio = vae.spatial_compression_ratio
    pixels = size * ratio
    if hasattr(vae, "tile_sample_stride_height"):
        share = 1 - vae.tile_sample_stride_height / vae.tile_sample_min_height if overlap is None else overlap
        stride = round(size * (1 - share))
        vae.enable_tiling(pixels, pixels, None, stride * ratio, stride * ratio)
        return stride, stride
    if hasattr(vae, "tile_sample_min_size"):
        vae.enable_tiling(pixels, overlap)
        shares = [vae.tile_overlap_factor] * 2
    else:
        vae.enable_tiling(pixels, pixels, overlap, overlap)
        shares = [vae.tile_overlap_factor_height, vae.tile_overlap_factor_width]
    return tuple(int(size * (1 - share)) for share in shares)


def ratios(coder, size, overlap, side):
    """The border-gradient ratios of decoding and of encoding smooth content, by those of the undivided.

    On content that is alike everywhere the latter are 1, but for what chance and the border of the picture do.
    """
    strides = set_tiles(coder.vae, size, overlap)
    zones = [[(at, at + size - step) for at in range(step, side - size + step, step)] for step in strides]
    pixel_zones = [[(begin * coder.ratio, end * coder.ratio) for begin, end in each] for each in zones]
    found = []
    for seed in range(2):
        latents, pixels = coder.latents(1, side, seed), coder.pixels(1, side * coder.ratio, seed)
        both = []
        for coded in (lambda: coder.decode(latents), lambda: coder.encode(pixels)):  # noqa: B023  (called at once)
            lines = (pixel_zones, coder.ratio, 4 * coder.ratio) if not both else (zones, 1, 4)
            coder.vae.use_tiling = True
            of_tiles = border_gradient_ratio(coded(), *lines)
            coder.vae.use_tiling = False
            both.append(of_tiles / border_gradient_ratio(coded(), *lines))
        found.append(both)
    return tuple(sum(column) / len(found) for column in zip(*found, strict=True))


@over_autoencoders
def test_seams_do_not_show(name):
    coder = coder_of(name)
    decoded, _ = ratios(coder, 24, None, 56)
    assert decoded < VISIBLE, "tiles of the default overlap"
    bare, bare_encoded = ratios(coder, 24, 0.0, 56)
    assert max(bare, bare_encoded) > 1.5, "without an overlap there are seams to be seen"


@over_autoencoders
def test_seams_of_encoded_tiles_do_not_show_with_an_overlap_of_a_half(name):
    coder = coder_of(name)  # with the defaults, which are the reference's, they do: see docs/differences.md
    assert ratios(coder, 24, 0.5, 56)[1] < VISIBLE


@pytest.fixture(scope="module")
def trained():
    return Coder(filmstrip.AutoencoderKLLTXVideo.from_pretrained("shapes", subfolder="vae", dtype=torch.float32).eval())


@pytest.mark.parametrize("overlap", [None, 0.25])
def test_seams_do_not_show_on_clips_through_a_trained_autoencoder(trained, overlap):
    rows = [
        [clips.draw([clips.COMBINATIONS[17 * i + 3 * j]], random.Random(i))[:, :, :1] for i in range(6)]
        for j in range(6)
    ]
    pixels = torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2)
    latents = trained.encode(pixels)
    stride, _ = set_tiles(trained.vae, 16, overlap)
    side, width = latents.shape[-1], 16 - stride
    decoded = trained.decode(latents)
    trained.vae.disable_tiling()
    whole = trained.decode(latents)
    zones = [(at * trained.ratio, (at + width) * trained.ratio) for at in range(stride, side - width, stride)]
    of_tiles, of_whole = (
        border_gradient_ratio(one, [zones] * 2, trained.ratio, trained.ratio) for one in (decoded, whole)
    )
    assert of_tiles / of_whole < VISIBLE


@over_autoencoders
def test_far_from_its_borders_a_tile_is_the_whole(name):
    coder = coder_of(name)
    norms = [module for module in coder.vae.decoder.modules() if "GroupNorm" in type(module).__name__]
    if norms:
        pytest.skip("its norms take their statistics from all of a tile")
    latents = coder.latents(1, 48)
    whole = coder.decode(latents)
    set_tiles(coder.vae, 44)
    tiled = coder.decode(latents)  # of the first tile, four latents are missing
    inner = slice(0, 20 * coder.ratio)
    close(tiled[..., inner, inner], whole[..., inner, inner])
    assert not torch.allclose(tiled, whole, atol=1e-3)
