"""Keys and values of a prompt are computed once for all steps of a run, and each run has its own."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

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
    predict = remembering_prompts(lambda tokens, prompt: attn(tokens, prompt))
    for _ in range(3):
        for prompt, result in zip(prompts, expected, strict=True):
            assert torch.equal(predict(tokens, prompt), result)
    assert len(calls) == len(prompts)
    attn(tokens, prompts[0])
    assert len(calls) == len(prompts) + 1, "nothing is remembered outside"


@torch.no_grad()
def test_only_so_many_are_remembered(attn, calls):
    predict = remembering_prompts(lambda prompt: attn(torch.randn(1, 5, 8), prompt))
    prompts = [torch.randn(1, 3, 6) for _ in range(MOST_REMEMBERED + 1)]
    for prompt in (*prompts, *prompts[1:], prompts[0]):
        predict(prompt)
    assert len(calls) == len(prompts) + 1, "of four the first is forgotten"


@torch.no_grad()
def test_what_attends_to_itself_remembers_nothing():
    itself, seen = Attention(8, None, heads=2, dim_head=4), []
    itself.to_k.register_forward_hook(lambda *_: seen.append(1))
    tokens, predict = torch.randn(1, 5, 8), remembering_prompts(lambda tokens: itself(tokens))
    predict(tokens), predict(tokens)
    assert len(seen) == 2


def test_nothing_is_remembered_where_gradients_are_asked_for_or_after_an_error(attn, calls):
    prompt = torch.randn(1, 3, 6)

    @remembering_prompts
    def predict(fails):
        attn(torch.randn(1, 5, 8), prompt).sum().backward()
        if fails:
            raise KeyError

    predict(False)
    with pytest.raises(KeyError):
        predict(True)
    assert len(calls) == 2
    with torch.no_grad():
        attn(torch.randn(1, 5, 8), prompt), attn(torch.randn(1, 5, 8), prompt)
    assert len(calls) == 4


@torch.no_grad()
def test_two_runs_that_alternate_do_not_remember_for_each_other(attn, calls):
    tokens, prompt = torch.randn(1, 5, 8), torch.randn(1, 3, 6)
    expected = attn(tokens, prompt)
    one, other = (remembering_prompts(lambda prompt: attn(tokens, prompt)) for _ in range(2))
    calls.clear()
    assert torch.equal(one(prompt), expected)
    attn.to_k.weight.mul_(2)
    changed = other(prompt)
    assert not torch.equal(changed, expected)
    assert torch.equal(other(prompt), changed)
    assert len(calls) == 2


def test_two_threads_do_not_remember_for_each_other(attn):
    tokens, both_inside, seen = torch.randn(1, 5, 8), threading.Barrier(2, timeout=30), {}

    def run(name):
        prompts = [torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(name + i)) for i in (0, 10)]
        projected = []
        hook = attn.to_k.register_forward_hook(
            lambda _, given, __: projected.append(any(given[0] is prompt for prompt in prompts))
        )

        @remembering_prompts
        @torch.no_grad()
        def predict(prompt):
            both_inside.wait()
            attn(tokens, prompt)
            both_inside.wait()

        for prompt in (*prompts, *prompts):
            predict(prompt)
        hook.remove()
        seen[name] = sum(projected)

    threads = [threading.Thread(target=run, args=(name,)) for name in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {0: 2, 1: 2}, "each run's two prompts were projected once"


@torch.no_grad()
def test_a_processor_of_the_call_comes_before_the_layers_own(attn):
    tokens, prompt, own = torch.randn(2, 5, 8), torch.randn(2, 3, 6), attn.processor

    def doubled(attn, *args, scale=2.0):
        return scale * own(attn, *args)

    expected = attn(tokens, prompt)
    assert torch.equal(attn(tokens, prompt, processor=doubled), 2 * expected)
    assert torch.equal(attn(tokens, prompt, processor=doubled, scale=3.0), 3 * expected)
    assert attn.processor is own and torch.equal(attn(tokens, prompt), expected)


@torch.no_grad()
def test_a_compiled_layer_is_compiled_once(attn):
    tokens, prompt, graphs = torch.randn(2, 5, 8), torch.randn(2, 3, 6), []
    expected = attn(tokens, prompt)

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    predict = remembering_prompts(torch.compile(attn, fullgraph=True, backend=backend))
    for _ in range(3):
        torch.testing.assert_close(predict(tokens, prompt), expected)
    assert len(graphs) == 1
