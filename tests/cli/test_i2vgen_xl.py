"""The command with I2VGen-XL: a picture and a text."""

import json

import numpy as np
import pytest

import filmstrip as package
from filmstrip.media import read_video
from tests.tiny_i2vgen_xl import parts, picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    pipeline = package.I2VGenXLPipeline(**parts())
    pipeline.defaults |= {"num_inference_steps": 3, "height": 16, "width": 24, "num_frames": 5}
    pipeline.save_pretrained(folder)
    return folder


def make(filmstrip, *words):
    result = filmstrip("generate", "a cat", "--seed", "1", "-o", "a.mkv", "--overwrite", "--json", *words)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_picture_and_a_text_make_a_video(filmstrip, folder, tmp_path):
    picture(0, 48, 32).save(tmp_path / "first.png")
    made = make(filmstrip, "--model", folder, "--image", "first.png")
    assert made["pipeline"] == "I2VGenXLPipeline" and made["fps"] == 16
    plain = read_video(tmp_path / "a.mkv")[0]
    assert plain.shape == (5, 16, 24, 3)
    slow = make(filmstrip, "--model", folder, "--image", "first.png", "--set", "target_fps=4")
    assert slow["fps"] == 4
    assert not np.array_equal(read_video(tmp_path / "a.mkv")[0], plain)


def test_a_picture_of_other_proportions_decides_the_size_or_is_cropped(filmstrip, folder, tmp_path):
    picture(0, 32, 48).save(tmp_path / "high.png")
    make(filmstrip, "--model", folder, "--image", "high.png")
    height, width = read_video(tmp_path / "a.mkv")[0].shape[1:3]
    assert height > width
    told = make(filmstrip, "--model", folder, "--image", "high.png", "--size", "24x16")["adjustments"]
    assert any("cropped" in sentence for sentence in told)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs an image"),
        (["--image", "first.png", "--set", "target_fps=0"], "target_fps must be"),
        (["--image", "first.png", "--set", "decode_chunk_size=0"], "decode_chunk_size must be"),
        (["--image", "first.png", "--set", "clip_skip=9"], "clip_skip must be between 0 and 2"),
        (["--image", "first.png", "--size", "25x16"], "multiple of 2"),
    ],
)
def test_what_makes_no_sense_is_refused(filmstrip, folder, tmp_path, words, message):
    picture(0, 48, 32).save(tmp_path / "first.png")
    result = filmstrip("generate", "a cat", "-o", "a.mkv", "--model", folder, *words)
    assert result.exit_code == 2 and message in " ".join(result.stderr.split()), result.stderr


def test_inspect_and_models_name_it(filmstrip, folder):
    described = json.loads(filmstrip("inspect", folder, "--json").stdout)
    assert described["tasks"] == {"image-to-video": "I2VGenXLPipeline"}
    assert described["defaults"]["frame_rate"] == 16
    assert "ali-vilab/i2vgen-xl" in filmstrip("models").stdout
