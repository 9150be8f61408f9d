"""Keys and values of a prompt are computed once for all steps of a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from filmstrip.nn.attention_layers import MOST_REMEMBERED, Attention, remembering_prompts


@pytest.fixture
def attn():
    torch.manual_seed(0)
    return Attention(8, 6, heads=2, dim_head=4)


@pytest.fixture
def calls(attn) -> list[Any]:
    seen: list[Any] = []
    attn.to_k.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    return seen


@torch.no_grad()
def test_the_same_prompt_is_projected_once_and_another_anew(attn, calls):
    tokens, prompts = torch.randn(2, 5, 8), [torch.randn(2, 3, 6) for _ in range(2)]
    expected = [attn(tokens, prompt) for prompt in prompts]
    calls.clear()
    with remembering_prompts(attn):
        for _ in range(3):
            for prompt, result in zip(prompts, expected, strict=True):
                assert torch.equal(attn(tokens, prompt), result)
        assert len(calls) == len(prompts)
    assert attn.remembered is None
    attn(tokens, prompts[0])
    assert len(calls) == len(prompts) + 1


@torch.no_grad()
def test_only_so_many_are_remembered(attn, calls):
    with remembering_prompts(attn):
        for _ in range(3 * MOST_REMEMBERED):
            attn(torch.randn(1, 5, 8), torch.randn(1, 3, 6))
        assert len(attn.remembered) == MOST_REMEMBERED


@torch.no_grad()
def test_what_attends_to_itself_remembers_nothing():
    itself = Attention(8, None, heads=2, dim_head=4)
    with remembering_prompts(nn.ModuleList([itself])):
        itself(torch.randn(1, 5, 8))
        assert itself.remembered is None


def test_nothing_is_remembered_where_gradients_are_asked_for_or_after_an_error(attn, calls):
    prompt = torch.randn(1, 3, 6)
    with pytest.raises(KeyError), remembering_prompts(attn):
        for _ in range(2):
            attn(torch.randn(1, 5, 8), prompt).sum().backward()
        assert len(calls) == 2
        raise KeyError
    assert attn.remembered is None


@torch.no_grad()
def test_a_compiled_layer_is_compiled_once(attn):
    tokens, prompt, graphs = torch.randn(2, 5, 8), torch.randn(2, 3, 6), []
    expected = attn(tokens, prompt)

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(attn, fullgraph=True, backend=backend)
    with remembering_prompts(attn):
        for _ in range(3):
            torch.testing.assert_close(compiled(tokens, prompt), expected)
    assert len(graphs) == 1
