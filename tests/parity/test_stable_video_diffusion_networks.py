"""The networks of Stable Video Diffusion compute what the reference's do."""

import diffusers
import pytest
import torch

from filmstrip.models.stable_video_diffusion import temporal
from filmstrip.models.stable_video_diffusion.autoencoder import AutoencoderKLTemporalDecoder
from filmstrip.models.stable_video_diffusion.unet import UNetSpatioTemporalConditionModel
from filmstrip.nn import resnet
from tests import tiny
from tests.parity.references import randomise, relative_error, transplant

UNETS = {
    "two levels": {},
    "three levels": {
        "block_out_channels": (32, 64, 96),
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", *["DownBlockSpatioTemporal"] * 2),
        "up_block_types": ("UpBlockSpatioTemporal", "UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        "num_attention_heads": (2, 4, 8),
    },
    "attention everywhere": {
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal",) * 2,
        "up_block_types": ("CrossAttnUpBlockSpatioTemporal",) * 2,
        "num_attention_heads": 4,
    },
    "more layers": {
        "layers_per_block": (2, 1),
        "transformer_layers_per_block": (2, 1),
        "down_block_types": ("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
        "up_block_types": ("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        "out_channels": 3,
    },
}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unets(**changes):
    settings = {**tiny.STABLE_VIDEO_DIFFUSION_UNET, **changes}
    theirs = randomise(diffusers.UNetSpatioTemporalConditionModel(**settings), spread=0.3)
    return transplant(UNetSpatioTemporalConditionModel(**settings), theirs), theirs


@pytest.fixture(params=["whole", "divided", "computed twice"])
def division(request, monkeypatch):
    """How layers work on a video: at once, in portions, and without keeping what is between two convolutions."""
    if request.param != "whole":
        monkeypatch.setattr(resnet, "STRIPE_CPU", 700)
        monkeypatch.setattr(resnet, "PIXELS_WORTH_ADDING", 1)
        monkeypatch.setattr(temporal, "PORTION_CPU", 700)
    if request.param == "computed twice":
        monkeypatch.setattr(temporal, "MOST_KEPT", 0)


@torch.no_grad()
@pytest.mark.usefixtures("division")
@pytest.mark.parametrize("name", UNETS)
def test_unet(name):
    ours, theirs = unets(**UNETS[name])
    given = normal(2, 3, 8, 8, 12), 3.7, normal(2, 1, 16, seed=1), torch.tensor([[6.0, 127.0, 0.02], [23.0, 5.0, 0.5]])
    assert relative_error(ours(*given).sample, theirs(*given).sample) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize(("frames", "size"), [(1, (8, 8)), (2, (5, 7)), (14, (4, 9)), (25, (3, 6))])
@pytest.mark.parametrize("tokens", [1, 3])
def test_unet_odd_sizes(frames, size, tokens):
    ours, theirs = unets(**UNETS["three levels"])
    given = normal(2, frames, 8, *size), torch.tensor([1.5, -0.3]), normal(2, tokens, 16), normal(2, 3).abs()
    assert relative_error(ours(*given)[0], theirs(*given, return_dict=False)[0]) < 1e-5


def test_unet_gradients():
    ours, theirs = unets()
    given = normal(2, 2, 8, 4, 4), 0.5, normal(2, 1, 16), normal(2, 3)
    for model in (ours, theirs):
        model(*given).sample.square().sum().backward()
    expected = {name: one.grad for name, one in theirs.named_parameters()}
    for name, one in ours.named_parameters():
        if expected[name].norm() > 1e-3:
            assert relative_error(one.grad, expected[name]) < 1e-4, name
    plain = {name: one.grad.clone() for name, one in ours.named_parameters()}
    ours.zero_grad()
    ours.enable_gradient_checkpointing()
    ours(*given).sample.square().sum().backward()
    for name, one in ours.named_parameters():
        torch.testing.assert_close(one.grad, plain[name])


# ---- autoencoder -----------------------------------------------------------------------------------------------------

AUTOENCODERS = {
    "two levels": {},
    "one level": {"block_out_channels": (32,), "down_block_types": ("DownEncoderBlock2D",)},
    "three levels, falling widths": {
        "block_out_channels": (64, 32, 96),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "layers_per_block": 2,
    },
    "three layers": {"layers_per_block": 3},
    "other channels": {"latent_channels": 6, "in_channels": 4, "out_channels": 2},
}


def autoencoders(**changes):
    settings = {**tiny.STABLE_VIDEO_DIFFUSION_AUTOENCODER, **changes}
    theirs = randomise(diffusers.AutoencoderKLTemporalDecoder(**settings), spread=0.3)
    return transplant(AutoencoderKLTemporalDecoder(**settings), theirs), theirs


@torch.no_grad()
@pytest.mark.usefixtures("division")
@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoder_both_ways(name):
    ours, theirs = autoencoders(**AUTOENCODERS[name])
    pictures = normal(2, ours.config.in_channels, 12, 20)
    for part in ("mean", "logvar"):
        found = [getattr(model.encode(pictures).latent_dist, part) for model in (ours, theirs)]
        assert relative_error(*found) < 1e-5
    latents = normal(6, ours.config.latent_channels, 6, 10, seed=1)
    for num_frames in (1, 2, 3, 6):
        results = [model.decode(latents, num_frames=num_frames).sample for model in (ours, theirs)]
        assert relative_error(*results) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("size", [(2, 3), (3, 8), (7, 5)])
@pytest.mark.parametrize("num_frames", [1, 5])
def test_autoencoder_odd_sizes(size, num_frames):
    ours, theirs = autoencoders()
    latents = normal(num_frames, 4, *size)
    before = latents.clone()
    results = [model.decode(latents, num_frames, return_dict=False)[0] for model in (ours, theirs)]
    assert relative_error(*results) < 1e-5
    assert torch.equal(latents, before)


@torch.no_grad()
def test_autoencoder_there_and_back():
    ours, theirs = autoencoders()
    pictures = normal(4, 3, 8, 8)
    for options in ({}, {"sample_posterior": True}, {"return_dict": False}, {"num_frames": 2}):
        results = [
            model(pictures, generator=torch.Generator().manual_seed(3), **options)[0] for model in (ours, theirs)
        ]
        assert relative_error(*results) < 1e-5


def test_autoencoder_gradients():
    ours, theirs = autoencoders()
    latents = normal(3, 4, 4, 4)
    gradients = []
    for model, is_recomputing in ((theirs, False), (ours, False), (ours, True)):
        if is_recomputing:
            model.enable_gradient_checkpointing()
        model.zero_grad()
        model.decode(latents, num_frames=3).sample.square().sum().backward()
        gradients.append({name: one.grad for name, one in model.decoder.named_parameters() if one.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() == gradients[2].keys()
    for name, expected in gradients[0].items():
        if expected.norm() > 1e-3:
            assert relative_error(gradients[1][name], expected) < 1e-4, name
        torch.testing.assert_close(gradients[1][name], gradients[2][name])
