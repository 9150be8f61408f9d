"""The attention function's own kernel for CPUs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from filmstrip.nn import attention as module
from filmstrip.nn.attention import attention, blocked_attention


def heads(tokens, head_dim, spread=1.0, seed=0):
    """As a projection leaves them: heads side by side in memory. (2, 3, tokens, head_dim)"""
    values = torch.randn(2, tokens, 3 * head_dim, generator=torch.Generator().manual_seed(seed)) * spread
    return values.bfloat16().unflatten(-1, (3, head_dim)).transpose(1, 2)


def error(result, truth):
    return float((result.double() - truth).norm() / truth.norm())


@pytest.mark.parametrize("spread", [1.0, 4.0, 20.0], ids=["wide", "peaked", "too large for plain powers"])
@pytest.mark.parametrize("block_scores", [2**20, 7 * 90])
def test_blocks_are_as_exact_as_bfloat16_allows(spread, block_scores, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SCORES", block_scores)
    query, key, value = heads(130, 80, spread), heads(90, 80, seed=1), heads(90, 80, seed=2)
    truth = F.scaled_dot_product_attention(query.double(), key.double(), value.double())
    # Weights and result are rounded once each; scores that were rounded too would double this where they are large.
    assert error(blocked_attention(query, key, value), truth) < 2**-8.5


def test_many_tokens_without_gradients_take_blocks_and_with_gradients_do_not(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "blocked_attention", lambda *given: calls.append(1) or blocked_attention(*given))
    query, key, value = (heads(512, 64, seed=seed) for seed in range(3))
    plain = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(attention(query, key, value), plain, atol=2e-3, rtol=0)
    assert calls
    calls.clear()
    attention(query.clone().requires_grad_(), key, value).sum().backward()
    attention(query[:, :, :256], key, value)
    attention(query.float(), key.float(), value.float())
    assert not calls
