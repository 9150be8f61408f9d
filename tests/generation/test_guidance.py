"""Guidance, by hand."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from filmstrip.generation.events import Step
from filmstrip.generation.guidance import ClassifierFree, PromptGuidance, Unguided, rescale_contrast
from filmstrip.generation.prompts import Prompts

LATENTS = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


def predict(latents, timestep, condition):
    """A network whose output is its condition, in the shape of the latents."""
    return torch.as_tensor(condition, dtype=torch.float32).view(-1, 1, 1).expand(latents.shape) * timestep


def test_unguided_is_the_prediction_for_the_prompt():
    assert torch.equal(Unguided(3.0)(predict, LATENTS, 2.0), torch.full_like(LATENTS, 6.0))


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 3.0), (0.0, 1.0), (2.0, 5.0), (7.5, 16.0)])
def test_guidance_goes_from_the_negative_towards_the_positive(scale, expected):
    guided = ClassifierFree(scale, negative=1.0, positive=3.0)(predict, LATENTS, 1.0)
    torch.testing.assert_close(guided, torch.full_like(LATENTS, expected))


def test_a_joint_condition_gives_the_same_in_one_call():
    sizes = []

    def noted(latents, timestep, condition):
        sizes.append(len(latents))
        return predict(latents, timestep, condition)

    joint = ClassifierFree(4.0, joint=[1.0, 1.0, 3.0, 3.0])(noted, LATENTS, 1.0)
    in_turn = ClassifierFree(4.0, negative=1.0, positive=3.0)(noted, LATENTS, 1.0)
    assert torch.equal(joint, in_turn)
    assert sizes == [4, 2, 2]


def test_guidance_without_conditions_is_refused():
    with pytest.raises(ValueError, match="joint condition, or a negative and a positive"):
        ClassifierFree(4.0, positive=1.0)(predict, LATENTS, 1.0)


@given(st.floats(0.1, 20), st.integers(0, 100))
def test_full_rescaling_gives_each_video_the_deviation_of_the_prompts_own_prediction(scale, seed):
    guided, positive = torch.randn(2, 2, 3, 8, generator=torch.Generator().manual_seed(seed))[:, :, None]
    rescaled = rescale_contrast(scale * guided, positive, 1.0)
    torch.testing.assert_close(rescaled.std((1, 2, 3)), positive.std((1, 2, 3)), rtol=1e-4, atol=1e-6)


def test_no_rescaling_changes_nothing_and_half_is_half_way():
    guided, positive = torch.randn(2, 2, 3, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(rescale_contrast(guided, positive, 0.0), guided)
    full = rescale_contrast(guided, positive, 1.0)
    torch.testing.assert_close(rescale_contrast(guided, positive, 0.5), (guided + full) / 2)


def test_rescaling_is_part_of_guidance():
    positive, negative = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(2))

    def lookup(latents, timestep, condition):
        return {"positive": positive, "negative": negative}[condition]

    plain = ClassifierFree(5.0, "negative", "positive")(lookup, LATENTS, 1.0)
    rescaled = ClassifierFree(5.0, "negative", "positive", rescale=0.7)(lookup, LATENTS, 1.0)
    torch.testing.assert_close(rescaled, rescale_contrast(plain, positive, 0.7))
    assert not torch.allclose(rescaled, plain)


def test_the_scale_may_depend_on_the_timestep():
    guidance = ClassifierFree(lambda timestep: timestep / 10, negative=1.0, positive=3.0)
    torch.testing.assert_close(guidance(predict, LATENTS, 20.0), torch.full_like(LATENTS, 20 * (1 + 2 * 2.0)))
    torch.testing.assert_close(guidance(predict, LATENTS, 10.0), torch.full_like(LATENTS, 10 * (1 + 2 * 1.0)))


def prompts(positive=3.0, negative=1.0, masks=False):
    """Prompts whose one number is what `predict` will give."""
    rows = [None if value is None else torch.full((2, 1, 1), value) for value in (positive, negative)]
    mask = torch.ones(2, 1, dtype=torch.bool) if masks else None
    return Prompts(rows[0], mask, rows[1], mask)


def guided_by(prompts, scale=4.0, **settings):
    """Guidance, and a list of the batches that were prepared for it."""
    prepared = []

    def prepare(half):
        assert half.negative_prompt_embeds is None
        prepared.append((len(half.prompt_embeds), half.prompt_attention_mask is not None))
        return half.prompt_embeds.flatten()

    return PromptGuidance(prompts, prepare, scale, **settings), prepared


@pytest.mark.parametrize("masks", [False, True])
def test_prompts_are_prepared_once_and_together_or_in_turn(masks):
    together, prepared = guided_by(prompts(masks=masks))
    in_turn, prepared_in_turn = guided_by(prompts(masks=masks), is_sequential=True)
    for _ in range(2):
        expected = torch.full_like(LATENTS, 9.0)
        torch.testing.assert_close(together(predict, LATENTS, 1.0), expected)
        torch.testing.assert_close(in_turn(predict, LATENTS, 1.0), expected)
    assert prepared == [(4, masks)]
    assert prepared_in_turn == [(2, masks), (2, masks)]


def test_a_scale_of_one_needs_no_negative_prompts():
    guidance, prepared = guided_by(prompts(), scale=1.0)
    assert torch.equal(guidance(predict, LATENTS, 1.0), torch.full_like(LATENTS, 3.0))
    assert prepared == [(2, False)]


def test_what_a_callback_changes_holds_from_the_next_step_on():
    guidance, prepared = guided_by(prompts(), vary=lambda scale, timestep: scale + timestep)
    step = Step(0, 2, 1.0, LATENTS, LATENTS)
    guidance.offer(step)
    guidance.accept(step)
    assert len(prepared) == 1  # nothing changed
    step.tensors["prompt_embeds"] = torch.full((2, 1, 1), 5.0)
    step.guidance_scale = 2.0
    guidance.accept(step)
    assert len(prepared) == 2
    torch.testing.assert_close(guidance(predict, LATENTS, 1.0), torch.full_like(LATENTS, 1 + 3 * 4.0))


def test_guidance_can_not_begin_half_way():
    guidance, _ = guided_by(prompts(negative=None), scale=1.0)
    with pytest.raises(ValueError, match="began without guidance"):
        guidance.accept(Step(0, 2, 1.0, LATENTS, LATENTS, guidance_scale=3.0))


@pytest.mark.parametrize("is_sequential", [False, True])
def test_pooled_embeddings_go_with_their_prompts(is_sequential):
    pooled = torch.tensor([[3.0], [3.5]]), torch.tensor([[1.0], [1.5]])
    whole = replace(prompts(masks=True), pooled_prompt_embeds=pooled[0], negative_pooled_prompt_embeds=pooled[1])
    prepared = []
    guidance = PromptGuidance(
        whole, lambda half: prepared.append(half.pooled_prompt_embeds.flatten()), 4.0, is_sequential=is_sequential
    )
    expected = [[1.0, 1.5], [3.0, 3.5]] if is_sequential else [[1.0, 1.5, 3.0, 3.5]]
    assert [one.tolist() for one in prepared] == expected
    step = Step(0, 2, 1.0, LATENTS, LATENTS)
    guidance.offer(step)
    assert step.tensors["negative_pooled_prompt_embeds"] is pooled[1]
    step.tensors["pooled_prompt_embeds"] = pooled[0] * 2
    guidance.accept(step)
    assert prepared[-1].tolist()[-2:] == [6.0, 7.0]


def test_negative_sizes_reach_the_negative_half_alone():
    sizes = [torch.tensor([[float(one)]] * 2) for one in (16, 8)]
    for negative, expected in ((None, [16, 16, 16, 16]), (sizes[1], [8, 8, 16, 16])):
        prepared = []
        whole = replace(prompts(), sizes=sizes[0], negative_sizes=negative)
        PromptGuidance(whole, lambda half, prepared=prepared: prepared.append(half.sizes.flatten().tolist()), 4.0)
        assert prepared == [expected]
