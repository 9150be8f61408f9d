"""What is checked at the door."""

import dataclasses

import numpy as np
import pytest
import torch

from filmstrip.checks import check_choice, check_count, check_share, check_whole_number
from filmstrip.generation.arguments import Sized, Watched
from filmstrip.generation.prompts import Prompts, encode_prompts, encode_text
from filmstrip.generation.request import Request, check_callback, check_generator, check_prompts, check_steps
from filmstrip.generation.resolve import Rules, resolve
from tests import tiny

NONE = dict.fromkeys(
    ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
)
EMBEDS, MASK = torch.zeros(2, 3, 4), torch.ones(2, 3)
GIVEN = {**NONE, "prompt_embeds": EMBEDS, "prompt_attention_mask": MASK}


def test_prompts_are_counted_and_negative_prompts_spread():
    assert check_prompts("a", None, NONE, is_guided=True) == (("a",), ("",), 1)
    assert check_prompts(["a", "b"], "c", NONE, is_guided=True) == (("a", "b"), ("c", "c"), 2)
    assert check_prompts(["a", "b"], ["c", "d"], NONE, is_guided=True) == (("a", "b"), ("c", "d"), 2)
    assert check_prompts("a", "c", NONE, is_guided=False) == (("a",), None, 1)
    assert check_prompts(None, None, GIVEN, is_guided=True) == (None, ("", ""), 2)


@pytest.mark.parametrize(
    ("prompt", "negative", "embeds", "message"),
    [
        (None, None, NONE, "Neither prompt nor prompt_embeds"),
        ("a", None, GIVEN, "Both prompt and prompt_embeds"),
        (3, None, NONE, "prompt must be a text"),
        ("a", 3, NONE, "negative_prompt must be a text"),
        ("a", ["b", "c"], NONE, "2 negative prompts were given for 1 prompts"),
        (None, None, {**GIVEN, "prompt_attention_mask": None}, "prompt_embeds needs prompt_attention_mask"),
        ("a", None, {**NONE, "prompt_attention_mask": MASK}, "no effect without prompt_embeds"),
        ("a", None, {**NONE, "negative_prompt_embeds": EMBEDS}, "needs negative_prompt_attention_mask"),
        (
            None,
            None,
            {**GIVEN, "negative_prompt_embeds": EMBEDS[:, :2], "negative_prompt_attention_mask": MASK[:, :2]},
            "the same shape",
        ),
        (
            "a",
            None,
            {**NONE, "negative_prompt_embeds": EMBEDS, "negative_prompt_attention_mask": MASK},
            "has 2 rows for 1 prompts",
        ),
    ],
)
def test_prompts_that_contradict_each_other_are_refused(prompt, negative, embeds, message):
    with pytest.raises(ValueError, match=message):
        check_prompts(prompt, negative, embeds, is_guided=True)


def test_generators_are_taken_as_they_are():
    generator = torch.Generator()
    assert check_generator(None, 2) is None
    assert check_generator(generator, 2) is generator
    assert check_generator([generator, generator], 2) == [generator, generator]
    assert check_generator((generator,), 1) == [generator]


def test_a_generator_of_numpy_seeds_one_of_torch():
    first, second = (check_generator(np.random.default_rng(3), 1).initial_seed() for _ in range(2))
    assert first == second
    assert check_generator(np.random.default_rng(4), 1).initial_seed() != first


@pytest.mark.parametrize("generator", [3, "3", np.random.RandomState(3), [3], np.random.PCG64(3)])
def test_what_is_no_generator_is_refused(generator):
    with pytest.raises(ValueError, match=r"generator must be a torch\.Generator"):
        check_generator(generator, 1)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_generators_is_refused(count):
    with pytest.raises(ValueError, match=f"{count} generators were given for 2 videos"):
        check_generator([torch.Generator()] * count, 2)


def test_numbers_are_checked_by_name():
    assert check_whole_number("steps", 3) == 3
    assert check_share("strength", 1.0) == 1.0
    for value in (0, 2.5, True, "3", None):
        with pytest.raises(ValueError, match="steps must be a whole number of at least 1"):
            check_whole_number("steps", value)
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="strength must be between 0 and 1"):
            check_share("strength", value)


def test_a_misspelt_choice_gets_a_suggestion():
    assert check_choice("kind", "pil", ("pil", "np")) == "pil"
    with pytest.raises(ValueError, match=r"kind must be one of pil, np, got 'pill'. Did you mean 'pil'\?"):
        check_choice("kind", "pill", ("pil", "np"))


def test_callbacks_are_checked():
    check_callback(Watched(), ["latents"])
    check_callback(Watched(callback_on_step_end=print), ["latents"])
    with pytest.raises(ValueError, match="must be callable"):
        check_callback(Watched(callback_on_step_end=3), ["latents"])
    with pytest.raises(ValueError, match="knows latents, got 'x', 'y'"):
        check_callback(Watched(callback_on_step_end_tensor_inputs=["x", "y"]), ["latents"])


def test_a_request_can_not_be_changed():
    size = resolve(Rules("Example", 8, "VAE 8", 8, 4, 4), height=8, width=8, num_frames=1, frame_rate=8)
    request = Request(arguments=Sized(height=8, width=8), size=size, num_videos=1)
    for changed in (request, request.arguments, request.size):
        with pytest.raises(dataclasses.FrozenInstanceError):
            changed.height = 9


def test_rows_are_spread_over_the_videos_of_their_prompt():
    size = resolve(Rules("Example", 8, "VAE 8", 8, 4, 4), height=8, width=8, num_frames=1, frame_rate=8)
    request = Request(arguments=Sized(), size=size, num_videos=6, num_videos_per_prompt=3)
    assert request.num_prompts == 2
    assert request.per_video(torch.tensor([[1.0]])).flatten().tolist() == [1.0] * 6
    assert request.per_video(torch.tensor([[1.0], [2.0]])).flatten().tolist() == [1.0] * 3 + [2.0] * 3


def test_steps_and_counts_that_contradict_each_other_are_refused():
    check_steps(50, [900, 400], usual_steps=50)
    check_steps(2, [900, 400], usual_steps=50)
    with pytest.raises(ValueError, match=r"num_inference_steps \(3\) has no effect with 2 timesteps"):
        check_steps(3, [900, 400], usual_steps=50)
    check_count("pictures", [1], 3)
    check_count("pictures", [1, 2, 3], 3)
    with pytest.raises(ValueError, match="2 pictures were given for 3 prompts"):
        check_count("pictures", [1, 2], 3)


def encoded(texts, max_length, masks_encoder=True):
    with torch.no_grad():
        return encode_text(tiny.tokenizer(), tiny.text_encoder(), texts, max_length, masks_encoder=masks_encoder)


def test_texts_are_padded_to_one_length_and_the_mask_marks_the_real_tokens():
    prompts = encoded(["a cat", "two dogs"], 12)
    assert prompts.prompt_embeds.shape == (2, 12, 16)
    assert prompts.prompt_attention_mask.sum(1).tolist() == [6, 9]  # one token a letter, and the end
    assert prompts.cut_off == ("", "")


def test_what_does_not_fit_is_returned_and_said(caplog):
    texts, negatives = ["a cat", "two dogs"], ["a bird", "a"]
    prompts = encode_prompts(7, encoded, texts, negatives, {})
    assert prompts.prompt_attention_mask.sum(1).tolist() == [6, 7]
    assert prompts.cut_off[0] == ""
    assert prompts.cut_off[1].replace(" ", "") == "gs"
    said = [(text.partition("longer than 7 tokens")[0], hasattr(one, "told_by_run")) for one, text in recorded(caplog)]
    assert said == [("The prompt is ", True)], "the report of the run says so as well"
    caplog.clear()
    encode_prompts(6, encoded, texts, negatives, {})
    assert [(text[:20], hasattr(one, "told_by_run")) for one, text in recorded(caplog)] == [
        ("The prompt is longer", True),
        ("The negative prompt ", False),
    ]


def recorded(caplog):
    return zip(caplog.records, caplog.messages, strict=True)


def test_an_encoder_that_sees_the_mask_is_not_moved_by_padding():
    short, long = (encoded(["a cat"], length).prompt_embeds[:, :6] for length in (6, 20))
    torch.testing.assert_close(short, long, rtol=1e-4, atol=1e-5)
    short, long = (encoded(["a cat"], length, masks_encoder=False).prompt_embeds[:, :6] for length in (6, 20))
    assert not torch.allclose(short, long, rtol=1e-2, atol=1e-3)


def test_prompts_are_repeated_row_by_row():
    prompts = Prompts(EMBEDS + torch.tensor([1.0, 2.0])[:, None, None], MASK).repeated(2)
    assert prompts.prompt_embeds[:, 0, 0].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert prompts.prompt_attention_mask.shape == (4, 3)
    assert prompts.negative_prompt_embeds is None


def test_trimming_drops_what_is_padding_in_every_row():
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]]).bool()
    negative = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool()
    embeds = torch.randn(2, 4, 5)
    assert Prompts(embeds, mask).trimmed().prompt_embeds.shape == (2, 2, 5)
    trimmed = Prompts(embeds, mask, embeds, negative).trimmed()
    assert torch.equal(trimmed.prompt_embeds, embeds[:, :3])
    assert torch.equal(trimmed.negative_prompt_attention_mask, negative[:, :3])
    assert Prompts(embeds, torch.zeros(2, 4)).trimmed().prompt_embeds.shape == (2, 1, 5)
    assert Prompts(embeds).trimmed().prompt_embeds.shape == (2, 4, 5)  # a model without masks attends to padding
    pooled = torch.zeros(2, 4)  # as wide as there are tokens
    assert Prompts(embeds, mask, pooled_prompt_embeds=pooled).trimmed().pooled_prompt_embeds.shape == (2, 4)
