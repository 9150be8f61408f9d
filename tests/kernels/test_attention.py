"""The attention function's own kernel for CPUs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from filmstrip.kernels import attention as module
from filmstrip.kernels.attention import attention, blocked_attention


def heads(tokens, head_dim, dtype, spread=1.0, seed=0):
    """As a projection leaves them: heads side by side in memory. (2, 3, tokens, head_dim)"""
    values = torch.randn(2, tokens, 3 * head_dim, generator=torch.Generator().manual_seed(seed)) * spread
    return values.to(dtype).unflatten(-1, (3, head_dim)).transpose(1, 2)


def error(result, truth):
    return float((result.double() - truth).norm() / truth.norm())


@pytest.mark.parametrize("spread", [1.0, 4.0, 20.0], ids=["wide", "peaked", "too large for plain powers"])
@pytest.mark.parametrize("block_scores", [2**20, 7 * 90])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.bfloat16, 2**-8.5), (torch.float32, 2e-6)])
def test_blocks_are_as_exact_as_the_type_allows(dtype, limit, spread, block_scores, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SCORES", block_scores)
    query, key, value = heads(130, 80, dtype, spread), heads(90, 80, dtype, seed=1), heads(90, 80, dtype, seed=2)
    truth = F.scaled_dot_product_attention(query.double(), key.double(), value.double())
    with torch.no_grad():
        # Weights and result are rounded once each; scores that were rounded too would double this where they are large.
        assert error(blocked_attention(query, key, value), truth) < limit


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_scores_whose_powers_no_float_holds(dtype):
    query, key, value = heads(130, 80, dtype, spread=200.0), heads(90, 80, dtype, seed=1), heads(90, 80, dtype, seed=2)
    truth = F.scaled_dot_product_attention(query.double(), key.double(), value.double())
    with torch.no_grad():
        assert error(blocked_attention(query, key, value), truth) < 2**-8.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_many_tokens_without_gradients_take_blocks_and_with_gradients_do_not(dtype, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "blocked_attention", lambda *given: calls.append(1) or blocked_attention(*given))
    query, key, value = (heads(256, 40, dtype, seed=seed) for seed in range(3))
    plain = F.scaled_dot_product_attention(query, key, value)
    with torch.no_grad():
        torch.testing.assert_close(attention(query, key, value), plain, atol=8e-3, rtol=0)
        assert len(calls) == 1
        attention(query[:, :, :100], key, value)  # few tokens
        attention(query, key, value, torch.zeros(256, 256, dtype=dtype))  # a mask
    attention(query.clone().requires_grad_(), key, value).sum().backward()
    assert len(calls) == 1
