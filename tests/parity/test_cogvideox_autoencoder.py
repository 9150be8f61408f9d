"""CogVideoX's autoencoder gives the reference's numbers, at once, in slices, in tiles and streamed."""

from __future__ import annotations

import weakref

import diffusers
import pytest
import torch

from filmstrip.kernels import group_norm
from filmstrip.models.cogvideox.autoencoder import AutoencoderKLCogVideoX
from filmstrip.nn.streaming import FrameStream
from tests.parity.references import randomise, relative_error, transplant

TOLERANCE = 1e-5
FOUR, TWO, THREE = (
    ({"down_block_types": ("CogVideoXDownBlock3D",) * n} | {"up_block_types": ("CogVideoXUpBlock3D",) * n})
    for n in (4, 2, 3)
)
TINY = {
    **FOUR,
    "block_out_channels": (4, 8, 8, 12),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "latent_channels": 4,
    "sample_height": 64,
    "sample_width": 96,
}
OPTIONS = {
    "tiny": {},
    "one group": {"norm_num_groups": 1, "block_out_channels": (3, 5, 7, 6)},
    "a group for each channel": {"norm_num_groups": 4, "block_out_channels": (4, 4, 4, 4)},
    "more layers": {"layers_per_block": 3},
    "two blocks": {**TWO, "block_out_channels": (6, 10)},
    "three blocks, other channels": {
        **THREE,
        "block_out_channels": (8, 8, 16),
        "in_channels": 2,
        "out_channels": 5,
        "latent_channels": 7,
    },
    "one halving in time": {"temporal_compression_ratio": 2},
    "no halving in time": {"temporal_compression_ratio": 1},
    "three halvings in time": {"temporal_compression_ratio": 8},
    "another activation and epsilon": {"act_fn": "gelu", "norm_eps": 0.1},
    # The reference makes these convolutions with out_channels, so they fit only if there are as many latent channels.
    "convolutions of the latents": {
        "latent_channels": 3,
        "out_channels": 3,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
    },
}
over_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def pair(options=None):
    config = {**TINY, **(options or {})}
    reference = randomise(diffusers.AutoencoderKLCogVideoX(**config))
    return transplant(AutoencoderKLCogVideoX(**config), reference), reference


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def assert_decodes_alike(ours, reference, latents):
    assert relative_error(ours.decode(latents).sample, reference.decode(latents).sample) < TOLERANCE


def assert_encodes_alike(ours, reference, video):
    (theirs,) = reference.encode(video, return_dict=False)
    posterior = ours.encode(video).latent_dist
    assert relative_error(posterior.mean, theirs.mean) < TOLERANCE
    assert relative_error(posterior.logvar, theirs.logvar) < TOLERANCE


@over_options
@torch.no_grad()
def test_every_configuration_agrees(options):
    ours, reference = pair(options)
    config = {**TINY, **options}
    assert_encodes_alike(ours, reference, noise(2, config.get("in_channels", 3), 9, 24, 16))
    assert_decodes_alike(ours, reference, noise(2, config["latent_channels"], 3, 2, 3))


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 16, 17, 18, 25])
@torch.no_grad()
def test_every_number_of_frames_agrees(frames):
    ours, reference = pair()
    assert_encodes_alike(ours, reference, noise(1, 3, frames, 16, 16))
    if frames <= 9:
        assert_decodes_alike(ours, reference, noise(1, 4, frames, 2, 2))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 40), (25, 38), (31, 57)])
@torch.no_grad()
def test_every_size_agrees(height, width):
    ours, reference = pair()
    assert_encodes_alike(ours, reference, noise(1, 3, 9, height, width))
    assert_decodes_alike(ours, reference, noise(1, 4, 3, height // 8, width // 8))


@pytest.mark.parametrize(("latent_frames", "frames"), [(1, 4), (3, 12), (4, 16)])
@torch.no_grad()
def test_other_lengths_of_chunks_agree(latent_frames, frames):
    ours, reference = pair()
    for vae in (ours, reference):
        vae.num_latent_frames_batch_size, vae.num_sample_frames_batch_size = latent_frames, frames
    assert_encodes_alike(ours, reference, noise(1, 3, 25, 16, 16))
    assert_decodes_alike(ours, reference, noise(1, 4, 7, 2, 2))


@torch.no_grad()
def test_long_runs_of_rows_and_frames_agree():
    """Enough positions for more than one portion of everything that is worked on in portions."""
    ours, reference = pair({**TWO, "block_out_channels": (16, 32)})
    assert_decodes_alike(ours, reference, noise(1, 4, 3, 40, 50))
    assert_encodes_alike(ours, reference, noise(1, 3, 9, 90, 70))


@torch.no_grad()
def test_the_whole_network_agrees_and_samples_from_the_generator():
    ours, reference = pair()
    video = noise(2, 3, 9, 16, 16)
    assert relative_error(ours(video).sample, reference(video).sample) < TOLERANCE
    sampled = [
        vae(video, sample_posterior=True, return_dict=False, generator=torch.Generator().manual_seed(3))[0]
        for vae in (ours, reference)
    ]
    assert relative_error(*sampled) < TOLERANCE
    assert relative_error(sampled[0], ours(video).sample) > 10 * TOLERANCE
    posteriors = [vae.encode(video).latent_dist for vae in (ours, reference)]
    drawn = [posterior.sample(torch.Generator().manual_seed(4)) for posterior in posteriors]
    assert relative_error(*drawn) < TOLERANCE


@torch.no_grad()
def test_slices_of_a_batch_agree_and_do_not_mix():
    ours, reference = pair()
    latents, video = noise(3, 4, 3, 2, 3), noise(3, 3, 9, 16, 24)
    for vae in (ours, reference):
        vae.enable_slicing()
    assert_decodes_alike(ours, reference, latents)
    assert_encodes_alike(ours, reference, video)
    sizes = []
    ours.decoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    sliced = ours.decode(latents).sample
    assert set(sizes) == {1}
    ours.disable_slicing()
    assert relative_error(ours.decode(latents).sample, sliced) < TOLERANCE
    assert set(sizes) == {1, 3}


# Tiles whose strides in pixels and in latents are the same places: there the reference is right.
TILES = {
    "a quarter overlaps": ((32, 32), (1 / 4, 1 / 4)),
    "a half overlaps": ((32, 48), (1 / 2, 1 / 2)),
    "different shares": ((32, 40), (1 / 2, 1 / 5)),
    "nothing overlaps across": ((32, 32), (1 / 4, 0)),
}
over_tiles = pytest.mark.parametrize(("sizes", "overlaps"), TILES.values(), ids=TILES)


@over_tiles
@torch.no_grad()
def test_tiles_agree(sizes, overlaps):
    ours, reference = pair()
    for vae in (ours, reference):
        vae.enable_tiling(*sizes)
        # Given to the call, the reference takes a share of zero for "as it was".
        vae.tile_overlap_factor_height, vae.tile_overlap_factor_width = overlaps
    undivided, _ = pair()
    latents, video = noise(2, 4, 3, 7, 9), noise(1, 3, 10, 56, 72)
    assert_decodes_alike(ours, reference, latents)
    assert_encodes_alike(ours, reference, video)
    assert relative_error(ours.decode(latents).sample, undivided.decode(latents).sample) > 10 * TOLERANCE


@torch.no_grad()
def test_the_published_tile_settings_agree():
    # A sixth and a fifth of a tile of 240 x 360 overlap; here of one of 48 x 40.
    ours, reference = pair({"sample_height": 96, "sample_width": 80})
    for vae in (ours, reference):
        vae.enable_tiling()
    assert_decodes_alike(ours, reference, noise(1, 4, 3, 11, 9))
    assert_encodes_alike(ours, reference, noise(1, 3, 9, 88, 72))


def of_places_only(vae, monkeypatch):
    """Leave out what makes tiles differ from the undivided picture: the reach of convolutions, and the statistics."""
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d) and module.kernel_size[-1] == 3:
            place = 0 if module.stride[-1] == 2 else 1
            weight = module.weight.data[..., place, place].clone()
            module.weight.data.zero_()[..., place, place] = 3 * weight
    monkeypatch.setattr(
        group_norm, "group_moments", lambda video, groups: (video.new_zeros(1, groups), video.new_ones(1, groups))
    )
    return vae


# The reference fails, or gives another size, wherever strides are not the same in pixels and in latents.
@pytest.mark.parametrize(
    "tiles", [(60, 52, 1 / 6, 1 / 5), (32, 40, 1 / 3, 1 / 7), (24, 33, 0.9, 0), (240, 41, 1 / 6, 1 / 5)]
)
@pytest.mark.parametrize(("height", "width"), [(90, 120), (112, 77), (107, 200)])
@torch.no_grad()
def test_tiles_that_fit_nothing_lie_where_they_belong(height, width, tiles, monkeypatch):
    ours = of_places_only(pair()[0], monkeypatch)
    video, latents = noise(1, 3, 1, height, width), noise(1, 4, 1, height // 8, width // 8)
    moments, pixels = ours.encode(video).latent_dist.mean, ours.decode(latents).sample
    ours.enable_tiling(*tiles)
    assert relative_error(ours.encode(video).latent_dist.mean, moments) < TOLERANCE
    assert relative_error(ours.decode(latents).sample, pixels) < TOLERANCE


@torch.no_grad()
def test_the_past_of_a_convolution_is_alive_once(monkeypatch):
    ours, _ = pair()
    past, doubles = {}, []

    def watched(keep, stream, key, frames):
        keep(stream, key, frames)
        past.setdefault(key, []).append(weakref.ref(stream.kept(key)))
        # The convolution at work still has its own old frames in hand.
        doubles.append(sum(sum(kept() is not None for kept in past[other]) > 1 for other in past if other is not key))

    for name, keep in (("keep", FrameStream.keep), ("hold", FrameStream.hold)):
        monkeypatch.setattr(FrameStream, name, lambda *given, keep=keep: watched(keep, *given))
    for _ in ours.decode_stream(noise(1, 4, 7, 2, 2)):
        pass
    assert len(past) > 10
    assert all(len(kept) == 3 for kept in past.values())
    assert not any(doubles)
    assert not any(kept() is not None for kept in (kept for refs in past.values() for kept in refs))


def gradients(vae, video):
    vae.zero_grad()
    vae(video).sample.square().mean().backward()
    return {name: parameter.grad for name, parameter in vae.named_parameters()}


def test_it_learns_as_the_reference_does_and_the_same_with_recomputing():
    ours, reference = pair()
    video = noise(1, 3, 17, 16, 16)
    learned, theirs = gradients(ours, video), gradients(reference, video)
    ours.enable_gradient_checkpointing()
    assert ours.decoder.gradient_checkpointing and ours.encoder.gradient_checkpointing
    recomputed = gradients(ours, video)
    assert learned.keys() == theirs.keys()
    for name, gradient in theirs.items():
        # A bias before a norm over its group has none but rounding.
        bound = 1e-4 * gradient.norm() + 1e-5
        assert (learned[name] - gradient).norm() <= bound, name
        torch.testing.assert_close(recomputed[name], learned[name])


@pytest.mark.parametrize("channels", [(16, 32), (64, 128)])
@torch.no_grad()
def test_bfloat16_is_no_further_from_the_truth_than_the_reference(channels):
    ours, reference = pair({**TWO, "block_out_channels": channels, "norm_num_groups": 8})
    latents, video = noise(1, 4, 5, 9, 10), noise(1, 3, 17, 18, 20)
    truth = reference.decode(latents).sample, reference.encode(video).latent_dist.mean
    ours.bfloat16(), reference.bfloat16()
    latents, video = latents.bfloat16(), video.bfloat16()
    decoded = [relative_error(vae.decode(latents).sample, truth[0]) for vae in (ours, reference)]
    encoded = [relative_error(vae.encode(video).latent_dist.mean, truth[1]) for vae in (ours, reference)]
    assert decoded[0] <= decoded[1] and encoded[0] <= encoded[1]
