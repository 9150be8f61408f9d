"""Residual blocks and samplers of pictures compute what the reference's compute, recorded or not, divided or not."""

import pytest
import torch
from diffusers.models.downsampling import Downsample2D as TheirDownsample2D
from diffusers.models.resnet import ResnetBlock2D as TheirResnetBlock2D
from diffusers.models.upsampling import Upsample2D as TheirUpsample2D
from torch import nn

from filmstrip.nn import resnet
from filmstrip.nn.resnet import Downsample2D, ResnetBlock2D, Upsample2D, convolve_activated, convolve_doubled
from tests.parity.references import randomise, relative_error, transplant


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error(ours, reference):
    return relative_error(ours.detach(), reference.detach())


def channels_last(pictures):
    return pictures.contiguous(memory_format=torch.channels_last)


BLOCKS = {
    "plain": {},
    "wider": {"out_channels": 24},
    "narrower": {"out_channels": 8},
    "no time": {"temb_channels": None},
    "modulated": {"time_embedding_norm": "scale_shift"},
    "modulated, wider": {"time_embedding_norm": "scale_shift", "out_channels": 24},
    "two groups, large eps": {"groups": 2, "eps": 1e-1},
    "scaled down": {"output_scale_factor": 2.5, "out_channels": 24},
    "gelu": {"act_fn": "gelu"},
}


def blocks(name):
    options = {"in_channels": 16, "out_channels": 16, "temb_channels": 20, "groups": 4, **BLOCKS[name]}
    ours = ResnetBlock2D(**options)
    options["non_linearity"] = options.pop("act_fn", "swish")
    theirs = randomise(TheirResnetBlock2D(**options))
    temb = None if options["temb_channels"] is None else normal(2, options["temb_channels"], seed=2)
    return transplant(ours, theirs), theirs, temb


@pytest.mark.parametrize("is_recording", [True, False])
@pytest.mark.parametrize("stripe", [2**30, 900])  # in one piece, and in stripes of two rows
@pytest.mark.parametrize("name", BLOCKS)
def test_a_residual_block(name, stripe, is_recording, monkeypatch):
    monkeypatch.setattr(resnet, "STRIPE_CPU", stripe)
    ours, theirs, temb = blocks(name)
    pictures = normal(2, 16, 7, 9)
    with torch.set_grad_enabled(is_recording):
        for given in (pictures, channels_last(pictures)):
            assert error(ours(given, temb), theirs(pictures, temb)) < 1e-6
    assert torch.equal(pictures, normal(2, 16, 7, 9)), "the input is still needed elsewhere"


def test_a_block_learns_as_the_references_does():
    ours, theirs, temb = blocks("modulated, wider")
    pictures = normal(2, 16, 5, 6)
    for block in (ours, theirs):
        block(pictures, temb).square().sum().backward()
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert error(parameter.grad, other.grad) < 1e-5, name


def test_a_block_drops_channels_in_training_only():
    block = randomise(ResnetBlock2D(8, 8, groups=2, dropout=0.5))
    pictures = normal(1, 8, 4, 4)
    assert torch.equal(block(pictures), block(pictures))
    block.train()
    assert not torch.equal(block(pictures), block(pictures))


@torch.no_grad()
@pytest.mark.parametrize("height", [1, 2, 5, 8])
def test_stripes_join_without_a_seam(height, monkeypatch):
    norm, conv = randomise(nn.GroupNorm(2, 8)), randomise(nn.Conv2d(8, 6, 3, padding=1))
    pictures = 3 + 5 * normal(2, 8, height, 5)
    whole = convolve_activated(norm, torch.tanh, conv, pictures)
    for rows in (1, 2, 3):
        monkeypatch.setattr(resnet, "STRIPE_CPU", rows * 2 * 8 * 5)
        assert error(convolve_activated(norm, torch.tanh, conv, pictures), whole) < 1e-6


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("size", [(8, 6), (7, 9), (3, 2)])
def test_halving(size, padding):
    theirs = randomise(TheirDownsample2D(8, use_conv=True, out_channels=12, padding=padding, name="op"))
    ours = transplant(Downsample2D(8, 12, padding), theirs)
    pictures = normal(2, 8, *size)
    assert error(ours(pictures), theirs(pictures)) < 1e-6


@pytest.mark.parametrize("is_recording", [True, False])
@pytest.mark.parametrize("stripe", [2**30, 80])  # in one piece, and row by row
@pytest.mark.parametrize("output_size", [None, (8, 10), (7, 10), (7, 9), (5, 5)])
def test_doubling(output_size, stripe, is_recording, monkeypatch):
    monkeypatch.setattr(resnet, "STRIPE_CPU", stripe)
    monkeypatch.setattr(resnet, "PIXELS_WORTH_ADDING", 1)
    theirs = randomise(TheirUpsample2D(8, use_conv=True, out_channels=12))
    ours = transplant(Upsample2D(8, 12), theirs)
    pictures = normal(2, 8, 4, 5)
    with torch.set_grad_enabled(is_recording):
        assert error(ours(pictures, output_size), theirs(pictures, output_size)) < 1e-6


@torch.no_grad()
def test_layers_that_somebody_watches_are_called(monkeypatch):
    monkeypatch.setattr(resnet, "STRIPE_CPU", 1)
    monkeypatch.setattr(resnet, "PIXELS_WORTH_ADDING", 1)
    called = []
    networks = [randomise(ResnetBlock2D(8, 8, groups=2)), randomise(Upsample2D(8))]
    expected = [network(normal(1, 8, 5, 6)) for network in networks]
    for network in networks:
        for layer in network.children():
            layer.register_forward_hook(lambda layer, *_: called.append(type(layer).__name__))
    for network, whole in zip(networks, expected, strict=True):
        assert error(network(normal(1, 8, 5, 6)), whole) < 1e-6
    assert sorted(called) == ["Conv2d"] * 3 + ["GroupNorm"] * 2


@torch.no_grad()
def test_doubled_pixels_need_not_exist_in_bfloat16_either():
    conv = randomise(nn.Conv2d(32, 32, 3, padding=1))
    pictures = normal(2, 32, 9, 7)
    exact = conv(nn.functional.interpolate(pictures, scale_factor=2.0))
    conv, pictures = conv.bfloat16(), pictures.bfloat16()
    usual = error(conv(nn.functional.interpolate(pictures, scale_factor=2.0)), exact)
    assert error(convolve_doubled(conv, pictures), exact) <= 1.3 * usual


def test_blocks_compile_whole():
    ours, _, temb = blocks("modulated")
    up, down = randomise(Upsample2D(16)), randomise(Downsample2D(16, padding=0))

    def run(pictures, temb):
        return down(up(ours(pictures, temb), (9, 11)))

    compiled = torch.compile(run, fullgraph=True, backend="eager")
    pictures = normal(2, 16, 5, 6)
    for is_recording in (True, False):
        with torch.set_grad_enabled(is_recording):
            assert error(compiled(pictures, temb), run(pictures, temb)) < 1e-6
