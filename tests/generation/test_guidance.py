"""Guidance, by hand."""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from filmstrip.generation.arguments import Guided
from filmstrip.generation.conditions import Rows
from filmstrip.generation.events import Step
from filmstrip.generation.guidance import (
    ClassifierFree,
    Guidance,
    TwoConditions,
    away_from_negatives,
    rescale_contrast,
)
from filmstrip.generation.prompts import Prompts

LATENTS = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
OFFERED = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")


def predict(latents, timestep, condition):
    """A network whose output is its condition, in the shape of the latents."""
    return torch.as_tensor(condition, dtype=torch.float32).view(-1, 1, 1).expand(latents.shape) * timestep


def full(value):
    return torch.full_like(LATENTS, value)


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 3.0), (0.0, 1.0), (2.0, 5.0), (7.5, 16.0)])
def test_guidance_goes_from_the_negative_towards_the_positive(scale, expected):
    torch.testing.assert_close(ClassifierFree(scale)([full(1.0), full(3.0)], 1.0), full(expected))


def test_two_conditions_have_a_scale_each():
    guided = TwoConditions(2.0, 3.0)([full(7.0), full(4.0), full(1.0)], 1.0)
    torch.testing.assert_close(guided, full(1 + 2 * (7 - 4) + 3 * (4 - 1)))


def test_the_scale_may_depend_on_the_timestep_and_on_the_frame():
    pair = [full(1.0), full(3.0)]
    rule = ClassifierFree(lambda timestep: timestep / 10)
    torch.testing.assert_close(rule(pair, 20.0), full(1 + 2 * 2.0))
    torch.testing.assert_close(rule(pair, 10.0), full(1 + 2 * 1.0))
    of_frames = torch.tensor([1.0, 2.0, 3.0])[:, None]  # (frames, 1), for latents (batch, frames, width)
    expected = (1 + 2 * of_frames).expand(2, 3, 4)
    torch.testing.assert_close(ClassifierFree(of_frames)(pair, 1.0), expected)
    torch.testing.assert_close(ClassifierFree(lambda _: of_frames)(pair, 1.0), expected)


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
    pair = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(2))
    plain, rescaled = (ClassifierFree(5.0, rescale)(pair, 1.0) for rescale in (0.0, 0.7))
    torch.testing.assert_close(rescaled, rescale_contrast(plain, pair[1], 0.7))
    assert not torch.allclose(rescaled, plain)


def prompts(positive=3.0, negative=1.0, masks=False):
    """Prompts whose one number is what `predict` will give."""
    rows = [None if value is None else torch.full((2, 1, 1), value) for value in (positive, negative)]
    mask = torch.ones(2, 1, dtype=torch.bool) if masks else None
    return Prompts(rows[0], mask, rows[1], mask)


def guided_by(prompts, scale=4.0, *, in_turn=False, vary=None):
    """Guidance, and a list of the batches that were prepared for it."""
    prepared = []

    def prepare(half):
        assert half.negative_prompt_embeds is None
        prepared.append((len(half.prompt_embeds), half.prompt_attention_mask is not None))
        return half.prompt_embeds.flatten()

    return Guidance(prompts, away_from_negatives(Guided(), vary=vary), prepare, scale, in_turn=in_turn), prepared


@pytest.mark.parametrize("masks", [False, True])
def test_prompts_are_prepared_once_and_together_or_in_turn(masks):
    together, prepared = guided_by(prompts(masks=masks))
    in_turn, prepared_in_turn = guided_by(prompts(masks=masks), in_turn=True)
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
    guidance.offer(step, OFFERED)
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


@pytest.mark.parametrize("in_turn", [False, True])
def test_pooled_embeddings_go_with_their_prompts(in_turn):
    pooled = torch.tensor([[3.0], [3.5]]), torch.tensor([[1.0], [1.5]])
    whole = replace(prompts(masks=True), pooled_prompt_embeds=pooled[0], negative_pooled_prompt_embeds=pooled[1])
    prepared = []
    guidance = Guidance(
        whole,
        away_from_negatives(Guided()),
        lambda half: prepared.append(half.pooled_prompt_embeds.flatten()),
        4.0,
        in_turn=in_turn,
    )
    expected = [[1.0, 1.5], [3.0, 3.5]] if in_turn else [[1.0, 1.5, 3.0, 3.5]]
    assert [one.tolist() for one in prepared] == expected
    step = Step(0, 2, 1.0, LATENTS, LATENTS)
    guidance.offer(step, OFFERED)
    assert step.tensors["negative_pooled_prompt_embeds"] is pooled[1]
    step.tensors["pooled_prompt_embeds"] = pooled[0] * 2
    guidance.accept(step)
    assert prepared[-1].tolist()[-2:] == [6.0, 7.0]


def test_only_what_a_pipeline_offers_is_shown_to_a_callback():
    guidance, _ = guided_by(prompts())
    step = Step(0, 2, 1.0, LATENTS, LATENTS)
    guidance.offer(step, ["prompt_embeds"])
    assert list(step.tensors) == ["prompt_embeds"]


@dataclass(frozen=True)
class Seen(Prompts):
    """Prompts, and a row of what is seen for each."""

    seen: torch.Tensor | None = None
    views: list[torch.Tensor] | None = None
    marks: tuple[bool, ...] = ()


def test_a_familys_own_rows_go_with_every_half():
    whole = Seen.of(
        prompts(), seen=torch.tensor([[5.0], [6.0]]), views=[torch.tensor([[7.0], [8.0]])], marks=(True, False)
    )
    prepared = []
    Guidance(whole, away_from_negatives(Guided()), prepared.append, 4.0)
    [joint] = prepared
    assert joint.prompt_embeds.flatten().tolist() == [1.0, 1.0, 3.0, 3.0]
    assert joint.seen.flatten().tolist() == [5.0, 6.0, 5.0, 6.0]
    assert joint.views[0].flatten().tolist() == [7.0, 8.0, 7.0, 8.0]
    assert joint.marks == (True, False, True, False)


def test_rows_are_repeated_one_by_one():
    rows = Seen.of(prompts(), seen=torch.tensor([[5.0], [6.0]]), marks=(True, False)).repeated(2)
    assert isinstance(rows, Rows) and rows.views is None
    assert rows.seen.flatten().tolist() == [5.0, 5.0, 6.0, 6.0]
    assert rows.marks == (True, True, False, False)


def test_a_family_without_prompts_is_guided_too():
    """Three conditions of rows that are no prompts, answered together or in turn."""

    @dataclass(frozen=True)
    class Picture(Rows):
        value: torch.Tensor

    def split(rows, scale):
        return TwoConditions(scale, 1.0), [
            rows,
            replace(rows, value=rows.value * 2),
            replace(rows, value=rows.value * 0),
        ]

    sizes = []

    def noted(latents, timestep, given):
        sizes.append(len(latents))
        return predict(latents, timestep, given.value.flatten())

    results = [
        Guidance(Picture(torch.tensor([[1.0], [2.0]])), split, lambda rows: rows, 3.0, in_turn=in_turn)(
            noted, LATENTS, 1.0
        )
        for in_turn in (False, True)
    ]
    assert sizes == [6, 2, 2, 2]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(results[0][:, 0, 0], torch.tensor([3 * -1.0 + 2.0, 3 * -2.0 + 4.0]))
