"""CogVideoX's autoencoder as a stream: the same video, in memory that does not grow; and its settings are honoured."""

from __future__ import annotations

import pytest
import torch

from filmstrip.models.cogvideox.autoencoder import AutoencoderKLCogVideoX
from filmstrip.nn.streaming import FrameStream
from tests.parity.references import randomise


def autoencoder(**options):
    config = {
        "block_out_channels": (8, 12, 16),
        "down_block_types": ("CogVideoXDownBlock3D",) * 3,
        "up_block_types": ("CogVideoXUpBlock3D",) * 3,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_height": 32,
        "sample_width": 48,
        **options,
    }
    return randomise(AutoencoderKLCogVideoX(**config))


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def set_up(vae, mode):
    if "tiles" in mode:
        vae.enable_tiling(16, 24, 0.5, 0.25)
    if "slices" in mode:
        vae.enable_slicing()
    return vae


MODES = ["whole", "slices", "tiles", "tiles and slices"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frames", [1, 2, 5, 6])
@torch.no_grad()
def test_the_joined_stream_is_the_video(mode, frames):
    vae = set_up(autoencoder(), mode)
    latents = noise(2, 4, frames, 5, 7)
    chunks = list(vae.decode_stream(latents))
    assert [chunk.shape[2] for chunk in chunks] == {1: [1], 2: [8], 5: [9, 8], 6: [8, 8, 8]}[frames]
    assert torch.equal(torch.cat(chunks, dim=2), vae.decode(latents).sample)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frames", [1, 7, 17, 26])
@torch.no_grad()
def test_the_joined_moments_are_the_posterior(mode, frames):
    vae = set_up(autoencoder(), mode)
    video = noise(2, 3, frames, 20, 28)
    moments = torch.cat(list(vae.encode_stream(video)), dim=2)
    posterior = vae.encode(video).latent_dist
    assert torch.equal(moments.chunk(2, dim=1)[0], posterior.mean)
    assert torch.equal(moments.chunk(2, dim=1)[1].clamp(-30, 20), posterior.logvar)


@torch.no_grad()
def test_frames_come_before_later_ones_are_decoded():
    vae = autoencoder()
    decoded = []
    vae.decoder.register_forward_hook(lambda *_: decoded.append(1))
    stream = vae.decode_stream(noise(1, 4, 7, 2, 2))
    assert decoded == []
    next(stream)
    assert len(decoded) == 1
    next(stream)
    assert len(decoded) == 2


@torch.no_grad()
def test_two_streams_do_not_meet():
    vae = autoencoder()
    one, other = noise(2, 4, 5, 2, 3).split(1)
    alone = [torch.cat(list(vae.decode_stream(latents)), dim=2) for latents in (one, other)]
    turns = list(zip(vae.decode_stream(one), vae.decode_stream(other), strict=True))
    for expected, chunks in zip(alone, zip(*turns, strict=True), strict=True):
        assert torch.equal(torch.cat(chunks, dim=2), expected)


@torch.no_grad()
def test_an_earlier_frame_does_not_see_a_later_chunk():
    vae = autoencoder()
    latents = noise(1, 4, 7, 2, 3)
    changed = latents.clone()
    changed[:, :, 3:] += 1
    before, after = vae.decode(latents).sample, vae.decode(changed).sample
    assert torch.equal(before[:, :, :9], after[:, :, :9])
    assert not torch.equal(before[:, :, 9:], after[:, :, 9:])


@torch.no_grad()
def test_the_inputs_are_left_alone():
    vae = autoencoder()
    latents, video = noise(1, 4, 3, 2, 3), noise(1, 3, 9, 8, 12)
    vae.decode(latents), vae.encode(video)
    assert torch.equal(latents, noise(1, 4, 3, 2, 3)) and torch.equal(video, noise(1, 3, 9, 8, 12))


def peak_bytes(call):
    with torch.profiler.profile(profile_memory=True) as profile:
        call()
    alive = most = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            alive += event.nbytes()
            most = max(most, alive)
    return most


@pytest.mark.parametrize("mode", ["whole", "tiles"])
@torch.no_grad()
def test_memory_does_not_grow_with_the_length(mode):
    vae = set_up(autoencoder(), mode)
    if mode == "tiles":
        vae.enable_tiling(8, 12, 0.0, 1 / 3)

    def decode(frames):
        latents = noise(1, 4, frames, 2, 4)
        return peak_bytes(lambda: [chunk.sum() for chunk in vae.decode_stream(latents)])

    def encode(frames):
        video = noise(1, 3, frames, 8, 16)
        return peak_bytes(lambda: [chunk.sum() for chunk in vae.encode_stream(video)])

    assert decode(49) <= 1.1 * decode(13)
    if mode == "whole":
        assert encode(193) <= 1.1 * encode(49)


@torch.no_grad()
def test_only_one_generation_of_each_cache_is_alive():
    vae = autoencoder()
    stream = FrameStream()
    sizes = []
    for chunk in noise(1, 4, 8, 2, 3).split(2, dim=2):
        vae.decoder(chunk, stream)
        sizes.append(sum(frames.nbytes for frames in stream._kept.values()))
        assert all(frames.shape[2] <= 2 for frames in stream._kept.values())
        assert all(frames.untyped_storage().nbytes() == frames.nbytes for frames in stream._kept.values())
    assert len(set(sizes)) == 1


@pytest.mark.parametrize(
    ("settings", "tiles"),
    [
        ((16, 24, 0.5, 0.5), 5 * 4),  # latent tiles of 4 x 6 in steps of 2 x 3
        ((16, 24, 0.25, 0.5), 4 * 4),
        ((16, 24, 0.25, 1 / 3), 4 * 3),
        ((32, 24, 0.5, 0.5), 3 * 4),
        ((400, 480, 0.5, 0.5), 1),
    ],
)
@torch.no_grad()
def test_settings_decide_the_number_of_tiles(settings, tiles):
    vae = autoencoder()
    calls = []
    vae.decoder.register_forward_hook(lambda *_: calls.append(1))
    vae.encoder.register_forward_hook(lambda *_: calls.append(1))
    vae.enable_tiling(*settings)
    vae.decode(noise(1, 4, 1, 10, 12))
    assert len(calls) == tiles
    vae.encode(noise(1, 3, 1, 40, 48))
    assert len(calls) == 2 * tiles


@torch.no_grad()
def test_settings_may_be_assigned():
    vae = autoencoder()
    vae.use_tiling = True
    vae.tile_latent_min_height = vae.tile_latent_min_width = 3
    vae.tile_overlap_factor_height = vae.tile_overlap_factor_width = 1 / 3
    calls = []
    vae.decoder.register_forward_hook(lambda *_: calls.append(1))
    assert vae.decode(noise(1, 4, 1, 4, 6)).sample.shape[3:] == (16, 24)
    assert len(calls) == 2 * 3
    vae.use_tiling = False
    vae.use_slicing = True
    vae.decode(noise(3, 4, 1, 2, 2))
    assert len(calls) == 2 * 3 + 3
    vae.num_latent_frames_batch_size = 1
    vae.decode(noise(1, 4, 3, 2, 2))
    assert len(calls) == 2 * 3 + 3 + 3


@torch.no_grad()
def test_convolving_wide_layers_with_fewer_products_changes_no_pixel_noticeably(monkeypatch):
    vae = autoencoder(block_out_channels=(32, 48, 48))
    latents, video = noise(1, 4, 5, 4, 5), noise(1, 3, 17, 16, 20)
    monkeypatch.setattr("filmstrip.kernels.winograd.MIN_POSITIONS", 2**30)
    plain = vae.decode(latents).sample, vae.encode(video).latent_dist.mean
    monkeypatch.setattr("filmstrip.kernels.winograd.MIN_POSITIONS", 1)
    for fast, slow in zip((vae.decode(latents).sample, vae.encode(video).latent_dist.mean), plain, strict=True):
        assert not torch.equal(fast, slow)
        assert (fast - slow).norm() < 5e-6 * slow.norm()


@torch.no_grad()
def test_a_tile_that_covers_everything_changes_nothing():
    vae = autoencoder()
    latents, video = noise(1, 4, 3, 4, 6), noise(1, 3, 9, 16, 24)
    expected = vae.decode(latents).sample, vae.encode(video).latent_dist.mean
    vae.enable_tiling(16, 24, 0.99, 0.99)
    assert torch.equal(vae.decode(latents).sample, expected[0])
    assert torch.equal(vae.encode(video).latent_dist.mean, expected[1])


@torch.no_grad()
def test_a_chunk_is_traced_whole():
    vae = autoencoder(
        block_out_channels=(8, 12),
        down_block_types=("CogVideoXDownBlock3D",) * 2,
        up_block_types=("CogVideoXUpBlock3D",) * 2,
    )
    for network, chunk in ((vae.decoder, noise(1, 4, 3, 2, 3)), (vae.encoder, noise(1, 3, 9, 4, 6))):
        compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(chunk), network(chunk), rtol=1e-4, atol=1e-5)


def test_other_blocks_are_refused():
    with pytest.raises(ValueError, match="down_block_types must be 'CogVideoXDownBlock3D'"):
        autoencoder(down_block_types=("DownEncoderBlock2D",) * 3)
    with pytest.raises(ValueError, match="act_fn is one of silu"):
        autoencoder(act_fn="tanh")
    assert (autoencoder().spatial_compression_ratio, autoencoder().temporal_compression_ratio) == (4, 4)
