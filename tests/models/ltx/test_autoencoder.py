"""What is special to the autoencoder of LTX-Video: streams, with and without tiles."""

import pytest
import torch

from filmstrip import AutoencoderKLLTXVideo
from tests import tiny
from tests.parity.references import randomise

MODES = ["chunks", "slices", "tiles", "tiles and slices"]


def autoencoder(**settings):
    torch.manual_seed(0)
    settings = {**tiny.LTX_TIMED_AUTOENCODER, **settings}
    noisy = tuple(True for _ in settings["decoder_layers_per_block"])
    return randomise(AutoencoderKLLTXVideo(**{**settings, "decoder_inject_noise": noisy}), spread=0.1).double()


def set_up(vae, mode):
    if "tiles" in mode:
        side = 2 * vae.spatial_compression_ratio
        vae.enable_tiling(side, side, None, side // 2, side // 2)
    if "slices" in mode:
        vae.enable_slicing()
    return vae


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def generators():
    return [torch.Generator().manual_seed(seed) for seed in (5, 6)]


@pytest.mark.parametrize("shared", [True, False], ids=["one generator", "one for each"])
@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_at_any_number_of_frames_the_result_and_its_noise_are_the_same(mode, shared):
    vae = set_up(autoencoder(), mode)
    latents, temb = normal(2, 8, 4, 3, 4), torch.tensor([0.05, 0.3], dtype=torch.double)
    found = []
    for frames in (None, 8, 1):
        vae.frames_at_once = frames
        source = generators()[0] if shared else generators()
        runs = list(vae.decode_stream(latents, temb, source))
        assert (len(runs) > 1) == (frames is not None and "tiles" not in mode)
        found.append(torch.cat(runs, dim=2))
        last = (source if shared else source[1]).get_state()
    for one in found[1:]:
        torch.testing.assert_close(one, found[0])
    source = generators()[0] if shared else generators()
    torch.testing.assert_close(vae.decode(latents, temb, generator=source).sample, found[0])
    assert torch.equal((source if shared else source[1]).get_state(), last)


@torch.no_grad()
def test_a_tile_is_coded_a_few_frames_at_a_time():
    vae = set_up(autoencoder(), "tiles")
    seen = []
    for network in (vae.decoder, vae.encoder):
        network.conv_in.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[2]))
    temb, ratio = torch.zeros(1, dtype=torch.double), vae.spatial_compression_ratio
    for frames_at_once, most in ((None, 9), (2, 2)):
        vae.frames_at_once = frames_at_once
        vae.decode(normal(1, 8, 9, 3, 3), temb)
        assert max(seen) == most
        seen.clear()
    vae.encode(normal(1, 3, 17, 3 * ratio, 3 * ratio))
    assert max(seen) == 2
    whole = vae.encode(normal(1, 3, 17, 3 * ratio, 3 * ratio)).latent_dist.mean
    vae.frames_at_once = None
    torch.testing.assert_close(vae.encode(normal(1, 3, 17, 3 * ratio, 3 * ratio)).latent_dist.mean, whole)


def test_gradients_flow_through_tiles():
    vae = set_up(autoencoder(), "tiles")
    latents = normal(1, 8, 3, 3, 3).requires_grad_()
    vae.decode(latents, torch.zeros(1, dtype=torch.double)).sample.sum().backward()
    assert bool(latents.grad.abs().sum() > 0)
