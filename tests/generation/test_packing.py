"""Latents as tokens and back."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from filmstrip.generation.packing import denormalize_latents, normalize_latents, pack_latents, unpack_latents

small = st.integers(1, 3)


@given(small, small, small, small, small, small, small)
def test_unpacking_is_the_inverse_of_packing(batch, channels, frames, height, width, patch_size, patch_size_t):
    size = (frames * patch_size_t, height * patch_size, width * patch_size)
    latents = torch.arange(batch * channels * size[0] * size[1] * size[2]).view(batch, channels, *size)
    tokens = pack_latents(latents, patch_size, patch_size_t)
    assert tokens.shape == (batch, frames * height * width, channels * patch_size_t * patch_size**2)
    assert torch.equal(unpack_latents(tokens, size, patch_size, patch_size_t), latents)


def test_tokens_run_through_columns_then_rows_then_frames():
    latents = torch.arange(8.0).view(1, 1, 2, 2, 2)
    assert pack_latents(latents).flatten().tolist() == list(range(8))


def test_a_patch_lists_its_channels_slowest_then_frames_rows_and_columns():
    latents = torch.arange(16.0).view(1, 2, 2, 2, 2)
    assert torch.equal(pack_latents(latents, 2, 2), torch.arange(16.0).view(1, 1, 16))


def test_normalised_latents_have_the_wanted_statistics():
    mean, std = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.5])
    noise = torch.randn(4, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    latents = noise * std.view(1, -1, 1, 1, 1) + mean.view(1, -1, 1, 1, 1)
    torch.testing.assert_close(normalize_latents(latents, mean, std), noise, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(normalize_latents(latents, mean, std, 0.7), 0.7 * noise, rtol=1e-5, atol=1e-5)


@given(st.floats(0.1, 10))
def test_denormalising_is_the_inverse(scaling_factor):
    mean, std = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.5])
    latents = torch.randn(1, 2, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    there = normalize_latents(latents, mean, std, scaling_factor)
    torch.testing.assert_close(denormalize_latents(there, mean, std, scaling_factor), latents, rtol=1e-4, atol=1e-4)


def test_the_type_of_the_latents_is_kept():
    latents = torch.zeros(1, 2, 1, 1, 1, dtype=torch.bfloat16)
    mean, std = torch.zeros(2), torch.ones(2)
    assert normalize_latents(latents, mean, std).dtype == torch.bfloat16
    assert denormalize_latents(latents, mean, std).dtype == torch.bfloat16
