"""Prompts, and embeddings in their place."""

import pytest
import torch

from filmstrip.generation.guidance import Guidance
from tests.contract.registered import CASES
from tests.contract.runs import call, close, over, over_those_with, request, shared, video

GIVEN = [case for case in CASES if case.embeddings is not None]


def test_every_case_with_embeddings_says_how_to_make_them():
    assert {case.name for case in GIVEN} == {case.name for case in CASES if case.takes("prompt_embeds")}


@over(GIVEN)
def test_given_embeddings_equal_the_prompt(case):
    embeds = case.embeddings(shared(case.name), case.call)
    assert torch.equal(video(case, **embeds), video(case))


@over(case for case in GIVEN if case.singles)
def test_given_embeddings_of_a_batch_equal_the_prompts(case):
    arguments = {**case.call, **case.batch, "negative_prompt": "dull"}
    embeds = case.embeddings(shared(case.name), arguments)
    assert torch.equal(video(case, **{**arguments, **embeds}), video(case, **arguments))


@over_those_with("prompt")
@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_generation_without_a_condition(case, prompt):
    """What guidance leads away from, asked for by itself."""
    assert request(case, prompt=prompt).prompts == (prompt,)
    assert torch.isfinite(video(case, prompt=prompt)).all()


@over_those_with("prompt", "prompt_embeds")
def test_neither_prompt_nor_embeddings_is_refused(case):
    with pytest.raises(ValueError, match="Neither prompt nor prompt_embeds"):
        request(case, prompt=None)


@over_those_with("prompt")
@pytest.mark.parametrize("prompt", [3, ["a cat", 3], {"a": "cat"}, []])
def test_what_is_no_text_is_refused(case, prompt):
    with pytest.raises(ValueError, match="prompt must be a text or a list of texts"):
        request(case, prompt=prompt)


@over_those_with("prompt", "max_sequence_length")
def test_what_is_cut_off_a_prompt_is_reported(case):
    prompt = "a red star spinning on a navy background"
    report = call(case, prompt=prompt, max_sequence_length=20).report
    (rest,) = report.cut_off
    assert rest and prompt.replace(" ", "").endswith(rest.replace(" ", ""))
    assert call(case, prompt=prompt).report.cut_off == ("",)


@over_those_with("prompt", "max_sequence_length")
def test_what_is_cut_off_is_reported_for_each_prompt(case):
    kept, cut = call(case, prompt=["a cat", "a cat in the rain"], max_sequence_length=10).report.cut_off
    assert kept == "" and cut != ""


@over_those_with("sequential_guidance")
def test_sequential_guidance_equals_batched_in_smaller_batches(case, monkeypatch):
    sizes, guided = [], Guidance.__call__

    def noting(self, predict, latents, timestep):
        def noted(latents, timestep, condition):
            sizes.append(len(latents))
            return predict(latents, timestep, condition)

        return guided(self, noted, latents, timestep)

    monkeypatch.setattr(Guidance, "__call__", noting)
    arguments = {"guidance_rescale": 0.5} if case.takes("guidance_rescale") else {}
    batched = video(case, **arguments)
    together = list(sizes)
    sizes.clear()
    in_turn = video(case, **arguments, sequential_guidance=True)
    close(in_turn, batched)
    assert sum(sizes) == sum(together) and max(sizes) <= max(together) // 2
    assert len(sizes) >= 2 * len(together)


@over_those_with("guidance_scale", "negative_prompt")
def test_without_guidance_a_negative_prompt_is_reported_as_unused(case, caplog):
    made = request(case, guidance_scale=1.0, negative_prompt="dull")
    assert any("negative_prompt has no effect" in sentence for sentence in made.size.adjustments)
    assert caplog.messages == list(made.size.adjustments)
    unused = video(case, guidance_scale=1.0, negative_prompt="dull")
    assert torch.equal(unused, video(case, guidance_scale=0.5))
