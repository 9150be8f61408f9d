"""Attention, embeddings, rotations and noise, by their definitions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from filmstrip.kernels.attention import attention
from filmstrip.nn.attention_layers import Attention
from filmstrip.nn.embeddings import AdaLayerNormSingle, sinusoidal_embedding
from filmstrip.nn.feed_forward import FeedForward
from filmstrip.nn.normalization import modulate, rms_norm
from filmstrip.nn.rotary import rotate_pairs, rotation_table
from filmstrip.outputs import DiagonalGaussian, SampleOutput
from filmstrip.randomness import draw_noise


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- attention -------------------------------------------------------------------------------------------------------


def test_attention_is_the_softmax_of_scaled_products():
    query, key, value = normal(3, 2, 4, 5, 8)
    scores = query @ key.transpose(-1, -2) / math.sqrt(8)
    torch.testing.assert_close(attention(query, key, value), scores.softmax(-1) @ value)


def test_equal_keys_give_the_mean_of_the_values():
    query, value = normal(2, 1, 1, 4, 8)
    attended = attention(query, torch.zeros_like(query), value)
    torch.testing.assert_close(attended, value.mean(2, keepdim=True).expand_as(value))


def test_a_mask_is_added_to_the_scores():
    query, key, value = normal(3, 1, 1, 3, 4)
    mask = torch.tensor([0.0, 0.0, -10000.0])[None, None, None]
    torch.testing.assert_close(attention(query, key, value, mask), attention(query, key[:, :, :2], value[:, :, :2]))


# ---- embeddings ------------------------------------------------------------------------------------------------------


def test_waves_start_at_one_cycle_and_fall_towards_the_longest_period():
    embedding = sinusoidal_embedding(torch.tensor([0.0, 3.0]), 8)
    assert torch.equal(embedding[0], torch.tensor([1.0] * 4 + [0.0] * 4))
    angles = 3.0 * 10000.0 ** -(torch.arange(4) / 4)
    torch.testing.assert_close(embedding[1], torch.cat([angles.cos(), angles.sin()]))


@given(st.floats(0, 1000), st.integers(1, 64))
def test_an_embedding_lies_on_the_unit_circles(timestep, half):
    embedding = sinusoidal_embedding(torch.tensor([timestep]), 2 * half)
    cos, sin = embedding.chunk(2, dim=1)
    torch.testing.assert_close(cos**2 + sin**2, torch.ones(1, half))


def test_waves_come_sines_first_on_request_and_a_shift_brings_the_last_to_the_longest_period():
    timestep = torch.tensor([3.0])
    cos, sin = sinusoidal_embedding(timestep, 8).chunk(2, dim=1)
    assert torch.equal(sinusoidal_embedding(timestep, 8, flip_sin_to_cos=False), torch.cat([sin, cos], dim=1))
    shifted = sinusoidal_embedding(timestep, 8, max_period=100.0, freq_shift=1)
    angles = 3.0 * 100.0 ** -(torch.arange(4) / 3)
    torch.testing.assert_close(shifted[0], torch.cat([angles.cos(), angles.sin()]))


def test_neighbouring_timesteps_differ_even_where_half_precision_can_not_tell_them_apart():
    first, second = sinusoidal_embedding(torch.tensor([999.0, 1000.0]), 256)
    assert torch.tensor(999.0, dtype=torch.bfloat16) == torch.tensor(1000.0, dtype=torch.bfloat16)
    assert (first - second).abs().max() > 0.1


def test_modulations_come_with_the_embedding_that_made_them():
    torch.manual_seed(0)
    norm = AdaLayerNormSingle(8, num_modulations=3)
    with torch.no_grad():
        modulations, embedded = norm(torch.tensor([1.0, 500.0]), torch.float32)
    assert modulations.shape == (2, 24) and embedded.shape == (2, 8)
    assert not torch.allclose(modulations[0], modulations[1])


# ---- normalisation, feed-forward -------------------------------------------------------------------------------------


def test_rms_norm_scales_to_a_root_mean_square_of_one():
    normed = rms_norm(5 * normal(3, 4, 16), eps=1e-8)
    torch.testing.assert_close(normed.square().mean(-1), torch.ones(3, 4))
    torch.testing.assert_close(rms_norm(torch.tensor([[3.0, 4.0]]), 0.0), torch.tensor([[3.0, 4.0]]) / math.sqrt(12.5))


def test_modulation_scales_around_one():
    x, scale, shift = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0]), torch.tensor([10.0, 20.0])
    assert modulate(x, scale, shift).tolist() == [11.5, 20.0]


def test_feed_forward_treats_each_token_alone():
    torch.manual_seed(0)
    tokens = normal(1, 5, 4)
    with torch.no_grad():
        layer = FeedForward(4)
        torch.testing.assert_close(layer(tokens)[:, 2:3], layer(tokens[:, 2:3]))
    with pytest.raises(ValueError, match=r"activation_fn must be one of .*'swish'"):
        FeedForward(4, activation_fn="swish")


@pytest.mark.parametrize("activation_fn", ["geglu", "swiglu"])
def test_a_gated_feed_forward_multiplies_one_half_by_the_other_activated(activation_fn):
    torch.manual_seed(0)
    tokens = normal(1, 5, 4)
    layer = FeedForward(4, activation_fn=activation_fn)
    value, gate = layer.net[0].proj(tokens).chunk(2, dim=-1)
    activated = torch.nn.functional.silu(gate) if activation_fn == "swiglu" else torch.nn.functional.gelu(gate)
    torch.testing.assert_close(layer(tokens), layer.net[2](value * activated))


# ---- rotations -------------------------------------------------------------------------------------------------------


def test_a_right_angle_turns_the_first_channel_into_the_second():
    table = rotation_table(torch.full((1, 1, 1), math.pi / 2))
    torch.testing.assert_close(rotate_pairs(torch.tensor([[[1.0, 0.0]]]), table), torch.tensor([[[0.0, 1.0]]]))


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(-10, 10))
def test_products_of_rotated_vectors_depend_on_the_difference_of_their_angles(first, second, offset):
    query, key = normal(2, 1, 1, 8)
    frequencies = torch.arange(1.0, 5.0)

    def product(one, other):
        tables = [rotation_table((angle * frequencies).view(1, 1, 4)) for angle in (one, other)]
        return (rotate_pairs(query, tables[0]) * rotate_pairs(key, tables[1])).sum()

    torch.testing.assert_close(product(first, second), product(first + offset, second + offset), rtol=1e-3, atol=1e-3)


def test_heads_are_turned_alike():
    hidden_states, table = normal(2, 3, 5, 8), rotation_table(normal(3, 4))
    turned = rotate_pairs(hidden_states, table[:, None])
    for head in range(5):
        torch.testing.assert_close(turned[:, :, head], rotate_pairs(hidden_states[:, :, head], table))


def test_a_rotation_keeps_the_type_and_is_exact_inside():
    hidden_states = normal(1, 2, 4).bfloat16()
    table = rotation_table(normal(1, 2, 2))
    turned = rotate_pairs(hidden_states, table)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotate_pairs(hidden_states.float(), table).bfloat16())


# ---- noise and posteriors --------------------------------------------------------------------------------------------


def test_a_list_of_generators_has_one_for_each_video():
    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    noise = draw_noise((2, 3, 4), generators(1, 2))
    assert torch.equal(noise[1:], draw_noise((1, 3, 4), generators(2)[0]))
    assert torch.equal(noise[:1], draw_noise((1, 3, 4), generators(1)))
    with pytest.raises(ValueError, match="2 generators were given for 3 videos"):
        draw_noise((3, 3, 4), generators(1, 2))


def test_noise_is_a_unit_gaussian_of_the_wanted_type():
    noise = draw_noise((1, 100_000), torch.Generator().manual_seed(0))
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert draw_noise((1, 2), torch.Generator(), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_posterior_is_drawn_around_its_mean():
    mean, log_variance = torch.full((1, 1, 50_000), 3.0), torch.full((1, 1, 50_000), math.log(4.0))
    posterior = DiagonalGaussian(torch.cat([mean, log_variance], dim=1))
    assert torch.equal(posterior.mode(), mean)
    torch.testing.assert_close(posterior.std, torch.full_like(mean, 2.0))
    torch.testing.assert_close(posterior.var, torch.full_like(mean, 4.0))
    sample = posterior.sample(torch.Generator().manual_seed(0))
    assert abs(sample.mean() - 3) < 0.05 and abs(sample.std() - 2) < 0.05


def test_extreme_variances_are_clamped():
    posterior = DiagonalGaussian(torch.tensor([[0.0], [1000.0]]).view(1, 2, 1))
    assert posterior.std.isfinite().all()


def test_an_output_is_read_by_name_by_key_and_by_position():
    tensor = torch.zeros(1)
    output = SampleOutput(tensor)
    assert output.sample is output["sample"] is output[0] is output.to_tuple()[0] is tensor


@torch.no_grad()
def test_attention_to_a_single_token_needs_no_queries():
    layer = Attention(16, 12, heads=2, dim_head=8)
    tokens, single = torch.randn(2, 5, 16), torch.randn(2, 1, 12)
    found = layer(tokens, single)
    twice = layer(tokens, single.expand(-1, 2, -1))  # two equal tokens, by the ordinary way
    torch.testing.assert_close(found, twice)
    with torch.enable_grad():
        layer(tokens, single).sum().backward()
    assert layer.to_q.weight.grad is not None
