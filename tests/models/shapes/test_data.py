"""The clips, their captions, the judge of clips and the tokenizer of captions."""

import random

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from training.shapes import clips
from training.shapes.captions import caption, plain_caption, vocabulary
from training.shapes.clips import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Combination
from training.shapes.evaluate import to_uint8
from training.shapes.judge import judge
from training.shapes.tokenizer import lower_case_twins, pieces, save_tokenizer


def drawn(*combinations, seed=0):
    return to_uint8(clips.draw(combinations, random.Random(seed))).movedim(1, -1).numpy()


def test_a_tenth_of_the_combinations_is_held_out_and_always_the_same():
    training, held_out = clips.split()
    assert len(held_out) == 102
    assert set(training) | set(held_out) == set(clips.COMBINATIONS)
    assert not set(training) & set(held_out)
    assert clips.split() == (training, held_out)
    assert all(len({row[part] for row in held_out}) == size for part, size in enumerate((4, 8, 8, 4)))


def test_the_judge_sees_what_was_drawn():
    rng = random.Random(3)
    combinations = rng.choices(clips.COMBINATIONS, k=100)
    seen = [judge(frames) for frames in drawn(*combinations, seed=4)]
    assert sum(a == b for a, b in zip(seen, combinations, strict=True)) >= 99


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_clip_played_backwards_shows_the_opposite(motion):
    opposite = {"left": "right", "up": "down", "growing": "shrinking"}
    opposite |= {after: before for before, after in opposite.items()}
    (frames,) = drawn(Combination("square", "cyan", motion, "navy"))
    assert judge(frames[::-1]).motion == opposite.get(motion, motion)


def test_the_judge_sees_nothing_on_an_empty_background():
    frames = np.full((17, 64, 64, 3), 128, dtype=np.uint8)
    assert judge(frames) == ("none", "none", "none", "gray")


def test_the_judge_measures_larger_pictures_alike():
    (frames,) = drawn(Combination("star", "orange", "left", "brown"))
    assert judge(frames.repeat(2, axis=1).repeat(2, axis=2)) == ("star", "orange", "left", "brown")


@pytest.mark.parametrize("combination", random.Random(0).sample(clips.COMBINATIONS, 24), ids="-".join)
def test_a_shape_never_touches_the_border(combination):
    for seed in range(4):
        (frames,) = drawn(combination, seed=seed)
        border = np.concatenate([frames[:, [0, -1]].reshape(-1, 3), frames[:, :, [0, -1]].reshape(-1, 3)])
        assert (border == border[0]).all()


def test_a_caption_names_all_four_parts():
    rng = random.Random(1)
    for _ in range(300):
        shape, colour, _, background = combination = rng.choice(clips.COMBINATIONS)
        words = caption(combination, rng).lower().replace("grey", "gray").replace(",", " ").replace(".", " ").split()
        assert {shape, colour, background} <= set(words)
    assert plain_caption(Combination("star", "red", "spinning", "navy")) == "a red star spinning on a navy background"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_words_of_captions_are_one_token_each(tokenizer):
    words = [*SHAPES, *COLOURS, *BACKGROUNDS, *vocabulary()]
    assert all(len(tokenizer(word).input_ids) == 2 for word in words)  # the word and the end
    assert len(tokenizer("zebra").input_ids) > 3


def test_padding_is_zero_and_masked(tokenizer):
    padded = tokenizer("a red star.", padding="max_length", max_length=16, return_tensors="pt")
    assert padded.attention_mask.sum() == 5
    assert padded.input_ids[0, 4:6].tolist() == [1, 0]
    assert tokenizer.model_max_length == 128


def test_capitals_have_twins_in_lower_case(tokenizer):
    twins = torch.tensor(lower_case_twins())
    shouted = torch.tensor(tokenizer("A RED Star.").input_ids)
    assert twins[shouted].tolist() == tokenizer("a red star.").input_ids
    assert len(twins) == len(pieces()) == len(tokenizer)
