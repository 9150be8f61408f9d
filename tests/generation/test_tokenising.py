"""Prompts of two threads that share a tokenizer."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from filmstrip.generation.prompts import encode_text
from tests import tiny


class Embedding(torch.nn.Module):
    """An encoder that tells which tokens it was given."""

    def forward(self, ids, attention_mask=None):
        return (ids.float()[..., None],)


@pytest.mark.parametrize("masks_encoder", [False, True])
def test_threads_that_share_a_tokenizer_get_what_they_get_alone(masks_encoder):
    tokenizer, encoder = tiny.tokenizer(), Embedding()
    calls = [(["a red ball rolls"] * 40, 24), (["blue"] * 3, 6), (["green and white"], 20), (["a"] * 9, 11)]

    def encoded(call):
        return encode_text(tokenizer, encoder, *call, masks_encoder=masks_encoder)

    expected = [encoded(call) for call in calls]
    with ThreadPoolExecutor(len(calls)) as pool:
        made = list(pool.map(encoded, calls * 200))
    for one, alone in zip(made, expected * 200, strict=True):
        assert torch.equal(one.prompt_embeds, alone.prompt_embeds)
        assert torch.equal(one.prompt_attention_mask, alone.prompt_attention_mask)
        assert one.cut_off == alone.cut_off
