"""The command with ModelScope: texts, and clips that are changed."""

import json

import numpy as np
import pytest

import filmstrip as package
from filmstrip.media import read_video
from tests.media.clips import moving_square
from tests.tiny_modelscope import parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    pipeline = package.TextToVideoSDPipeline(**parts())
    pipeline.defaults["num_inference_steps"] = 3
    pipeline.save_pretrained(folder / "texts")
    package.VideoToVideoSDPipeline(**pipeline.components).save_pretrained(folder / "clips")
    return folder


def make(filmstrip, *words):
    result = filmstrip("generate", "a cat", "--seed", "1", "-o", "a.mkv", "--overwrite", "--json", *words)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_text_makes_a_video(filmstrip, folder, tmp_path):
    made = make(filmstrip, "--model", folder / "texts", "--num-frames", "5")
    assert made["pipeline"] == "TextToVideoSDPipeline"
    assert read_video(tmp_path / "a.mkv")[0].shape == (5, 16, 16, 3)
    plain = read_video(tmp_path / "a.mkv")[0]
    make(filmstrip, "--model", folder / "texts", "--num-frames", "5", "--set", "base_noise_share=0.5")
    assert not np.array_equal(read_video(tmp_path / "a.mkv")[0], plain)


@pytest.mark.parametrize("name", ["texts", "clips"])
def test_a_clip_is_changed(filmstrip, folder, name, tmp_path):
    package.export_to_video(moving_square(4, 24, 32), tmp_path / "clip.mkv", fps=8)
    made = make(filmstrip, "--model", folder / name, "--video", "clip.mkv", "--set", "strength=0.7")
    assert made["pipeline"] == "VideoToVideoSDPipeline"
    assert read_video(tmp_path / "a.mkv")[0].shape == (4, 24, 32, 3)


def test_inspect_and_models_name_both_tasks(filmstrip, folder):
    described = json.loads(filmstrip("inspect", folder / "texts", "--json").stdout)
    assert described["tasks"]["text-to-video"] == "TextToVideoSDPipeline"
    assert described["tasks"]["video-to-video"] == "VideoToVideoSDPipeline"
    assert described["defaults"]["frame_rate"] == 8
    assert "cerspense/zeroscope_v2_XL" in filmstrip("models").stdout


def test_a_strength_that_makes_no_sense_is_refused(filmstrip, folder, tmp_path):
    package.export_to_video(moving_square(4, 24, 32), tmp_path / "clip.mkv", fps=8)
    words = ("--model", folder / "clips", "--video", "clip.mkv", "--set", "strength=1.5")
    result = filmstrip("generate", "a cat", "-o", "a.mkv", *words)
    assert result.exit_code == 2 and "strength must be between 0 and 1" in result.stderr
