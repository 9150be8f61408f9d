"""The command with a model whose tasks are different pipelines, and whose call has no frame rate."""

import json

import pytest
import torch
from PIL import Image

import filmstrip as package
from filmstrip.media import read_video
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny CogVideoX for texts."""
    torch.manual_seed(0)
    pipeline = package.CogVideoXPipeline(
        tokenizer=tiny.tokenizer(),
        text_encoder=tiny.text_encoder(),
        vae=package.AutoencoderKLCogVideoX(**tiny.COGVIDEOX_AUTOENCODER),
        transformer=package.CogVideoXTransformer3DModel(**tiny.COGVIDEOX_TRANSFORMER),
        scheduler=package.CogVideoXDDIMScheduler(),
    )
    pipeline.defaults["num_inference_steps"] = 2
    folder = tmp_path_factory.mktemp("cogvideox")
    pipeline.save_pretrained(folder)
    return folder


def test_a_file_plays_at_the_models_own_rate(filmstrip, folder, tmp_path):
    assert filmstrip("generate", "a cat", "--model", folder, "-o", "a.mp4", "--seconds", "2").exit_code == 0
    frames, fps = read_video(tmp_path / "a.mp4")
    assert (len(frames), fps) == (16, 8)
    assert filmstrip("generate", "a cat", "--model", folder, "-o", "b.mp4", "--fps", "5").exit_code == 0
    assert read_video(tmp_path / "b.mp4")[1] == 5


def test_a_clip_is_changed_by_the_familys_own_pipeline(filmstrip, folder, tmp_path):
    assert filmstrip("generate", "a cat", "--model", folder, "-o", "a.mkv", "--seed", "1").exit_code == 0
    words = ("--model", folder, "--video", "a.mkv", "--set", "strength=0.5", "--seed", "1", "-o", "b.mkv")
    result = filmstrip("generate", "a dog", *words)
    assert result.exit_code == 0, result.stderr
    first, second = read_video(tmp_path / "a.mkv")[0], read_video(tmp_path / "b.mkv")[0]
    assert first.shape == second.shape and (first != second).any()


def test_a_control_video_is_followed_as_far_as_it_is_wanted(filmstrip, tmp_path):
    torch.manual_seed(0)
    pipeline = package.CogVideoXFunControlPipeline(
        tokenizer=tiny.tokenizer(),
        text_encoder=tiny.text_encoder(),
        vae=package.AutoencoderKLCogVideoX(**tiny.COGVIDEOX_AUTOENCODER),
        transformer=package.CogVideoXTransformer3DModel(**{**tiny.COGVIDEOX_TRANSFORMER, "in_channels": 8}),
        scheduler=package.CogVideoXDDIMScheduler(),
    )
    pipeline.defaults["num_inference_steps"] = 2
    pipeline.save_pretrained(tmp_path / "control")
    package.export_to_video([Image.new("RGB", (48, 32), (20 * i, 0, 0)) for i in range(12)], tmp_path / "c.mkv", fps=8)
    words = ("--model", "control", "--control-video", "c.mkv", "--num-frames", "9", "--seed", "1", "-o", "a.mkv")
    result = filmstrip("generate", "a cat", *words)
    assert result.exit_code == 0, result.stderr
    assert len(read_video(tmp_path / "a.mkv")[0]) == 9
    assert filmstrip("rerun", "a.mkv", "-o", "b.mkv").exit_code == 0
    assert (read_video(tmp_path / "b.mkv")[0] == read_video(tmp_path / "a.mkv")[0]).all()


def test_a_scheduler_of_the_family_can_be_chosen(filmstrip, folder):
    words = ("--model", folder, "--scheduler", "CogVideoXDPMScheduler", "-o", "a.mp4", "--json")
    result = filmstrip("generate", "a cat", *words)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["scheduler"] == "CogVideoXDPMScheduler"


def test_only_tasks_that_the_components_can_do_are_named(filmstrip, folder):
    described = json.loads(filmstrip("inspect", folder, "--json").stdout)
    assert list(described["tasks"]) == ["text-to-video", "video-to-video"]


def test_a_picture_for_a_text_model_is_refused_in_a_sentence(filmstrip, folder, tmp_path):
    Image.new("RGB", (48, 32)).save(tmp_path / "a.png")
    result = filmstrip("generate", "a cat", "--model", folder, "--image", "a.png", "-o", "a.mp4")
    assert result.exit_code == 2
    assert "made for another task" in result.stderr


def test_a_path_that_is_not_there_is_no_hub_name(filmstrip):
    result = filmstrip("generate", "a cat", "--model", "./nowhere", "-o", "a.mp4")
    assert result.exit_code != 0
    assert "there is no folder './nowhere'" in result.stderr
