"""LTX-Video's networks can be trained and traced, and are no less exact than the reference in bfloat16."""

from __future__ import annotations

import pytest
import torch

from tests.parity.references import relative_error
from tests.parity.test_ltx_networks import (
    AUTOENCODERS,
    TRANSFORMERS,
    autoencoder_pair,
    transformer_inputs,
    transformer_pair,
)

GRID = {"num_frames": 3, "height": 2, "width": 5, "rope_interpolation_scale": (8 / 25, 32, 32)}


def assert_same_gradients(ours, reference):
    theirs = dict(reference.named_parameters())
    for name, parameter in ours.named_parameters():
        if theirs[name].grad is None:
            assert parameter.grad is None, name
            continue
        assert parameter.grad.isfinite().all(), name
        difference = (parameter.grad - theirs[name].grad).norm()
        assert difference <= 1e-4 * theirs[name].grad.norm() + 1e-6, name


@pytest.mark.parametrize("options", TRANSFORMERS.values(), ids=TRANSFORMERS.keys())
def test_the_transformer_learns_the_same(options):
    ours, reference, channels = transformer_pair(options)
    inputs = transformer_inputs(channels, (2,))
    for network in (ours, reference):
        network(**inputs, **GRID).sample.square().mean().backward()
    assert_same_gradients(ours, reference)


@pytest.mark.parametrize("name", ["0.9.0", "0.9.5"])
def test_the_autoencoder_learns_the_same(name):
    ours, reference, temb = autoencoder_pair(AUTOENCODERS[name])
    video = torch.rand(2, 3, 9, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    for vae in (ours, reference):
        vae.decode(vae.encode(video).latent_dist.mode(), temb).sample.square().mean().backward()
    assert_same_gradients(ours, reference)


@torch.no_grad()
def test_the_transformer_is_traced_whole():
    ours, _, channels = transformer_pair(TRANSFORMERS["one head"])
    inputs = transformer_inputs(channels, (2,))
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**inputs, **GRID).sample, ours(**inputs, **GRID).sample)


@torch.no_grad()
def test_the_transformer_in_bfloat16_is_no_further_from_the_truth():
    options = {"num_attention_heads": 2, "attention_head_dim": 64, "cross_attention_dim": 128}
    ours, reference, channels = transformer_pair(options)
    inputs = transformer_inputs(channels, (1,), batch=1)
    inputs["hidden_states"] = torch.randn(1, 2 * 16 * 17, channels, generator=torch.Generator().manual_seed(4))
    grid = GRID | {"num_frames": 2, "height": 16, "width": 17}
    truth = reference(**inputs, **grid).sample
    for name in ("hidden_states", "encoder_hidden_states", "encoder_attention_mask"):
        inputs[name] = inputs[name].bfloat16()
    errors = [relative_error(network.bfloat16()(**inputs, **grid).sample, truth) for network in (ours, reference)]
    assert errors[0] <= 1.1 * errors[1]


@pytest.mark.parametrize("name", ["0.9.0", "0.9.5"])
@torch.no_grad()
def test_the_decoder_in_bfloat16_is_no_further_from_the_truth(name):
    ours, reference, temb = autoencoder_pair(AUTOENCODERS[name])
    latents = torch.randn(2, 8, 2, 6, 7, generator=torch.Generator().manual_seed(3))
    truth = reference.decode(latents, temb).sample
    half = latents.bfloat16()
    temb = None if temb is None else temb.bfloat16()
    errors = [relative_error(vae.bfloat16().decode(half, temb).sample, truth) for vae in (ours, reference)]
    assert errors[0] <= 1.1 * errors[1]
