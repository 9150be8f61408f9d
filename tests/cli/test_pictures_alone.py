"""The command with a model that takes a picture and no prompt."""

import json

import numpy as np
import pytest
from PIL import Image

import filmstrip as package
from filmstrip.media import read_video
from tests.tiny_stable_video_diffusion import parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Stable Video Diffusion."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    pipeline = package.StableVideoDiffusionPipeline(**parts())
    pipeline.defaults |= {"height": 16, "width": 24, "num_inference_steps": 2}
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "boat.png")


def failure(result):
    assert result.exit_code == 2, result.stderr
    return result.stderr.splitlines()[-1]


@pytest.mark.usefixtures("picture")
def test_a_picture_alone_becomes_a_video(filmstrip, folder, tmp_path):
    words = "generate", "--model", folder, "--image", "boat.png", "--fps", "5", "-o", "a.mkv", "--json"
    result = filmstrip(*words)
    assert result.exit_code == 0, result.stderr
    made = json.loads(result.stdout)
    assert made["pipeline"] == "StableVideoDiffusionPipeline"
    assert made["settings"]["fps"] == 5
    frames, fps = read_video(tmp_path / "a.mkv")
    assert (frames.shape, fps) == ((4, 16, 24, 3), 5)
    again = filmstrip("rerun", "a.mkv", "-o", "b.mkv", "--fps", "6", "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["settings"]["fps"] == 6


@pytest.mark.usefixtures("picture")
def test_names_of_files_without_a_prompt(filmstrip, folder):
    result = filmstrip("generate", "--model", folder, "--image", "boat.png", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["files"]


@pytest.mark.usefixtures("picture")
def test_what_it_can_t_take_is_said(filmstrip, folder, tmp_path):
    words = "generate", "--model", folder, "-o", "a.mkv"
    assert "image" in failure(filmstrip(*words))
    assert "PROMPT has no effect" in failure(filmstrip(*words, "a boat", "--image", "boat.png"))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert "broken.png" in failure(filmstrip(*words, "--image", "broken.png"))
    assert "missing.png" in failure(filmstrip(*words, "--image", "missing.png"))
    assert "fps must be at least 1" in failure(filmstrip(*words, "--image", "boat.png", "--fps", "0.5"))


def test_it_is_inspected_and_listed(filmstrip, folder):
    described = json.loads(filmstrip("inspect", folder, "--json").stdout)
    assert described["tasks"] == {"image-to-video": "StableVideoDiffusionPipeline"}
    listed = filmstrip("models").stdout
    assert "Stable Video Diffusion" in listed
