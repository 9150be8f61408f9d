"""The model in the box, as it is installed."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from filmstrip import LTXConditionPipeline, LTXImageToVideoPipeline, LTXPipeline
from filmstrip.checkpoints import find_checkpoint
from training.shapes.evaluate import judge_drawn, judge_text_to_video
from training.shapes.judge import judge
from training.shapes.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def pipeline():
    return LTXPipeline.from_pretrained("shapes")


def seeded(count):
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def test_the_weights_fit_into_forty_megabytes():
    folder = find_checkpoint("shapes")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 40_000_000


def test_the_recipe_still_makes_the_tokenizer_of_the_weights():
    saved = json.loads((find_checkpoint("shapes") / "tokenizer" / "tokenizer.json").read_text())
    assert json.loads(build_tokenizer().to_str()) == saved


def test_the_judge_is_right_on_drawn_clips():
    assert min(judge_drawn(100).values()) >= 0.99


def test_held_out_prompts_are_obeyed(pipeline):
    shares = judge_text_to_video(pipeline, 17, seed=5)
    assert shares["colour"] == shares["background"] == 1
    assert shares["motion"] >= 0.9 and shares["shape"] >= 0.8


def test_capitals_make_no_difference(pipeline):
    usual, shouted = (
        pipeline(prompt=prompt, generator=seeded(1), num_inference_steps=2, output_type="np").frames
        for prompt in ("a red star spinning on a navy background", "A RED star Spinning on a Navy background")
    )
    assert np.array_equal(usual, shouted)


def decibels(picture, frames):
    return 10 * np.log10(255**2 / np.square(frames[0].astype(float) - picture).mean())


@pytest.mark.parametrize("pipeline_class", [LTXImageToVideoPipeline, LTXConditionPipeline])
def test_a_given_first_frame_is_kept_and_moves_as_told(pipeline_class):
    picture = np.full((64, 64, 3), 128, dtype=np.uint8)
    picture[20:42, 16:38] = (230, 25, 30)
    frames = pipeline_class.from_pretrained("shapes")(
        image=Image.fromarray(picture),
        prompt="a red square moving right on a gray background",
        generator=seeded(1)[0],
        output_type="uint8",
    ).frames[0]
    assert decibels(picture, frames) >= 24
    assert judge(frames).motion == "right"
