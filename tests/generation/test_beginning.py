"""What runs begin with, and the checks of what several kinds of calls start from."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from filmstrip.checks import check_one_of, one_each
from filmstrip.generation.arguments import Embedded, Rescaled
from filmstrip.generation.beginning import initial_latents, posterior_of
from filmstrip.generation.prompts import Prompts, embeddings
from filmstrip.generation.request import check_shape
from filmstrip.outputs import DiagonalGaussian, EncoderOutput

CPU = torch.device("cpu")


def session(latents):
    arguments = SimpleNamespace(latents=latents)
    return SimpleNamespace(request=SimpleNamespace(arguments=arguments), generator=torch.Generator().manual_seed(0))


def test_a_run_begins_with_the_latents_of_its_call_or_with_its_own_noise():
    given = torch.ones(1, 2, dtype=torch.bfloat16)
    assert torch.equal(initial_latents(session(given), (3, 3), CPU), torch.ones(1, 2))
    noise = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(initial_latents(session(None), (3, 3), CPU), noise)


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_a_posterior_is_checked(value):
    moments = torch.full((1, 4, 2, 2), value)
    vae = torch.nn.Linear(1, 1)
    vae.dtype, vae.encode = torch.float32, lambda pixels, coding: EncoderOutput(DiagonalGaussian(moments))
    if value == value:
        assert posterior_of(vae, torch.zeros(1, 3, 2, 2), None).mode().shape == (1, 2, 2, 2)
    else:
        with pytest.raises(ArithmeticError, match="vae"):
            posterior_of(vae, torch.zeros(1, 3, 2, 2), None)


def test_exactly_one_of_two_starts_is_taken():
    check_one_of("Editing", video=[1], latents=None)
    check_one_of("Editing", video=None, latents=torch.zeros(2))
    for given, number in ((None, "neither"), (torch.zeros(2), "both")):
        with pytest.raises(ValueError, match=f"Editing starts from video or from latents, {number} given; pass one"):
            check_one_of("Editing", video=given, latents=given)


@pytest.mark.parametrize("values", [[1.0, 2.0], (1.0, 2.0), np.array([1.0, 2.0])])
def test_one_value_is_for_all_and_several_are_for_each(values):
    assert one_each("scale", 0.5, 3, "clips") == [0.5] * 3
    assert one_each("scale", values, 2, "clips") == [1.0, 2.0]
    with pytest.raises(ValueError, match="scale has 2 values for 3 clips; give one, or one for each"):
        one_each("scale", values, 3, "clips")


def test_latents_of_another_shape_are_refused():
    check_shape("latents", torch.zeros(1, 2), (3, 4), (1, 2))
    with pytest.raises(ValueError, match=r"latents must have the shape \(3,\) or \(4,\) for this size, got \(5,\)"):
        check_shape("latents", torch.zeros(5), (3,), (4,), asked_for="size")


def test_embeddings_come_in_the_order_of_their_names_and_masks_keep_their_type():
    made = Prompts(torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool))
    names = dict.fromkeys(("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds"))
    settings = {"is_guided": False, "times": 2, "device": "cpu", "dtype": torch.bfloat16}
    embeds, mask, negative = embeddings(lambda *given: made, "a cat", None, names, **settings)
    assert (embeds.shape, embeds.dtype) == ((2, 2, 3), torch.bfloat16)
    assert (mask.shape, mask.dtype) == ((2, 2), torch.bool) and negative is None


def test_arguments_say_their_embeddings_and_how_far_contrast_is_brought_back():
    assert list(Embedded().embeds) == ["prompt_embeds", "negative_prompt_embeds"]
    assert Embedded().rescale == 0.0 and Rescaled(guidance_rescale=0.7).rescale == 0.7
