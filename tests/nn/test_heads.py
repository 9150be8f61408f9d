"""Heads that are normalised and turned, and linear layers, by the plain way of computing them."""

import pytest
import torch
from torch import nn

from filmstrip.kernels.layers import Linear
from filmstrip.kernels.linear import product
from filmstrip.nn.feed_forward import ACTIVATIONS, FeedForward
from filmstrip.nn.heads import BLOCK_TOKENS, normed_heads
from filmstrip.nn.rotary import rotation_table


def plainly(hidden_states, num_heads, norm, rotation):
    heads = norm(hidden_states.unflatten(-1, (num_heads, -1)))
    if rotation is not None:
        turned = torch.view_as_complex(heads.unflatten(-1, (-1, 2)).contiguous())
        heads = torch.view_as_real(turned * torch.view_as_complex(rotation)[:, None]).flatten(-2)
    return heads.transpose(1, 2)


@pytest.mark.parametrize("tokens", [1, 7, BLOCK_TOKENS, BLOCK_TOKENS + 3])
@pytest.mark.parametrize("turns", [False, True])
def test_blocks_give_what_the_whole_gives(tokens, turns):
    torch.manual_seed(0)
    norm = nn.LayerNorm(8, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    hidden_states = torch.randn(2, tokens, 3 * 8)
    rotation = rotation_table(torch.randn(tokens, 4)) if turns else None
    expected = plainly(hidden_states, 3, norm, rotation)
    with torch.no_grad():
        in_blocks = normed_heads(hidden_states, 3, norm, rotation)
    torch.testing.assert_close(in_blocks, expected)
    assert in_blocks.is_contiguous()  # head by head, as attention reads it
    with_gradients = normed_heads(hidden_states, 3, norm, rotation)
    torch.testing.assert_close(with_gradients, expected)
    assert with_gradients.requires_grad


def test_a_norm_that_is_watched_or_replaced_is_called():
    norm, seen = nn.LayerNorm(8), []
    norm.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        normed_heads(torch.randn(1, 4, 16), 2, norm)
    assert seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_layer_computes_the_same_however_it_is_called(dtype, bias):
    torch.manual_seed(0)
    layer = Linear(24, 40, bias=bias).to(dtype)
    hidden_states = torch.randn(2, 5, 24, dtype=dtype)
    expected = layer(hidden_states)
    with torch.no_grad():
        torch.testing.assert_close(layer(hidden_states), expected, rtol=1.6e-2, atol=1e-2)
    assert expected.requires_grad


def test_products_of_matrices_with_gaps_are_right_and_not_slow():
    wide = torch.randn(300, 2, 64)
    hidden_states, weight = wide[:, 0], wide[:, 1]  # (300, 64) each, their rows 128 numbers apart
    with torch.no_grad():
        torch.testing.assert_close(product(hidden_states, weight), hidden_states @ weight.T)
        with torch.profiler.profile() as profile:
            product(hidden_states, weight)
    # The product itself is given rows without gaps; with gaps it would take another, very slow way.
    assert sum(event.count for event in profile.key_averages() if event.key == "aten::copy_") == 2


@torch.no_grad()
def test_weights_that_compute_in_their_own_way_are_asked():
    class Counting(torch.Tensor):
        calls = 0

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            cls.calls += func is nn.functional.linear
            return super().__torch_function__(func, types, args, kwargs or {})

    weight = torch.randn(1024, 64)
    result = product(torch.randn(64, 64), weight.as_subclass(Counting))
    assert Counting.calls == 1
    assert result.shape == (64, 1024)


@pytest.mark.parametrize("activation_fn", ACTIVATIONS)
@pytest.mark.parametrize("tokens", [1, 100, 160, 900])  # products that are small, whose halves are small, and large
def test_a_feed_forward_computes_the_same_with_gradients_and_without(activation_fn, tokens):
    torch.manual_seed(0)
    layer, hidden_states = FeedForward(48, activation_fn=activation_fn), torch.randn(1, tokens, 48)
    expected = layer(hidden_states)
    with torch.no_grad():
        torch.testing.assert_close(layer(hidden_states), expected)
