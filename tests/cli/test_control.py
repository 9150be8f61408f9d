"""The command with models of pictures: their videos, those that follow a clip, and clips that are changed."""

import json
import re

import numpy as np
import pytest
import torch

import filmstrip as package
from filmstrip.media import read_video
from filmstrip.media.edges import canny_edges
from filmstrip.resume.journal import FileJournal
from filmstrip.sharing import place_of
from tests.media.clips import moving_square
from tests.tiny_stable_diffusion import controlnet, parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Stable Diffusion for texts and one for instructions, and a ControlNet."""
    folder = tmp_path_factory.mktemp("models")
    kinds = {
        "texts": package.StableDiffusionPipeline(**parts()),
        "instructions": package.StableDiffusionInstructPix2PixPipeline(**parts(in_channels=8)),
    }
    for name, pipeline in kinds.items():
        pipeline.defaults["num_inference_steps"] = 4
        pipeline.save_pretrained(folder / name)
    controlnet(0).save_pretrained(folder / "control")
    return folder


@pytest.fixture
def clip(tmp_path):
    frames = moving_square(6, 32, 32)
    package.export_to_video(frames, tmp_path / "clip.mkv", fps=6)
    return frames


def make(filmstrip, *words):
    result = filmstrip("generate", "a cat", "--seed", "1", "-o", "a.mkv", "--overwrite", "--json", *words)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refusal(filmstrip, *words):
    result = filmstrip("generate", "a cat", "-o", "a.mkv", *words)
    assert result.exit_code == 2, result.stderr
    return result.stderr.splitlines()[-1]


def test_a_model_of_pictures_makes_videos(filmstrip, folder, tmp_path):
    made = make(filmstrip, "--model", folder / "texts", "--num-frames", "3")
    assert made["pipeline"] == "TextToVideoZeroPipeline"
    assert read_video(tmp_path / "a.mkv")[0].shape == (3, 16, 16, 3)
    assert make(filmstrip, "--model", folder / "texts", "--seconds", "0.5")["files"][0]["num_frames"] == 2
    described = json.loads(filmstrip("inspect", folder / "texts", "--json").stdout)
    assert described["tasks"] == {"text-to-video": "TextToVideoZeroPipeline"}
    assert described["defaults"]["frame_rate"] == 4
    assert re.search(r"frames +any number\n", filmstrip("inspect", folder / "texts").stdout)


def test_a_video_follows_the_edges_of_a_clip_and_is_made_again(filmstrip, folder, clip, tmp_path):
    pytest.importorskip("cv2")
    words = (
        "--model",
        folder / "texts",
        "--component",
        f"controlnet={folder / 'control'}",
        "--control-video",
        "clip.mkv",
    )
    made = make(filmstrip, *words, "--edges", "--num-frames", "2")
    assert (made["pipeline"], made["files"][0]["fps"]) == ("TextToVideoZeroControlNetPipeline", 6)
    frames = read_video(tmp_path / "a.mkv")[0]
    record = package.read_metadata(tmp_path / "a.mkv")
    assert place_of(record["components"]["controlnet"]) == str(folder / "control")
    assert frames.shape == (2, 16, 16, 3)
    assert filmstrip("rerun", "a.mkv", "-o", "b.mkv").exit_code == 0
    assert np.array_equal(read_video(tmp_path / "b.mkv")[0], frames)
    make(filmstrip, *words, "--num-frames", "2")
    assert not np.array_equal(read_video(tmp_path / "a.mkv")[0], frames), "the clip itself is not its edges"

    pipeline = package.TextToVideoZeroControlNetPipeline.from_pretrained(
        folder / "texts", controlnet=package.ControlNetModel.from_pretrained(folder / "control")
    )
    small = [package.load_image(picture).resize((16, 16)) for picture in package.load_video("clip.mkv", num_frames=2)]
    call = {"control_video": canny_edges(small), "output_type": "uint8"}
    assert np.array_equal(pipeline("a cat", **call, generator=torch.Generator().manual_seed(1)).frames[0], frames)


def test_a_clip_is_changed_by_an_instruction(filmstrip, folder, clip, tmp_path):
    made = make(
        filmstrip, "--model", folder / "instructions", "--video", "clip.mkv", "--steps", "2", "--seconds", "0.5"
    )
    assert made["pipeline"] == "TextToVideoZeroInstructPix2PixPipeline"
    assert read_video(tmp_path / "a.mkv")[0].shape == (3, 16, 16, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "texts", "--control-video", "clip.mkv"], "give --component controlnet=MODEL"),
        (["--model", "texts", "--component", "controlnet=control"], "--component controlnet has no effect"),
        (["--model", "texts", "--video", "clip.mkv"], "is made for another task: its U-Net takes 4 channels"),
        (["--model", "texts", "--image", "clip.mkv"], "clip.mkv can't be read as a picture"),
        (["--model", "texts", "--edges"], "none was given"),
        (["--model", "texts", "--component", "controlnet"], "--component takes NAME=MODEL"),
        (["--model", "instructions", "--video", "clip.mkv", "--num-frames", "9"], "has 6 frames, 9 were asked for"),
        (
            ["--model", "texts", "--component", "controlnet=texts", "--control-video", "clip.mkv"],
            "is not the checkpoint of one network",
        ),
        (
            ["--model", "texts", "--component", "controlnet=texts/unet", "--control-video", "clip.mkv"],
            "must be a ControlNetModel, got a UNet2DConditionModel",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_not_be_is_said_in_a_sentence(filmstrip, folder, clip, words, said):
    names = ("texts", "instructions", "control", "texts/unet")
    placed = [folder / word if word in names else word for word in words]
    placed = [
        f"controlnet={folder / word.partition('=')[2]}" if str(word).startswith("controlnet=") else word
        for word in placed
    ]
    assert said in refusal(filmstrip, *placed)


def test_a_cut_off_video_is_finished_without_what_it_was_made_from(filmstrip, folder, clip, tmp_path, monkeypatch):
    words = ("--model", folder / "texts", "--component", f"controlnet={folder / 'control'}", "--num-frames", "3")
    words += ("--control-video", "clip.mkv", "--scheduler", "EulerAncestralDiscreteScheduler")
    make(filmstrip, *words, "--set", "num_inference_steps=6")
    (tmp_path / "a.mkv").rename(tmp_path / "whole.mkv")
    step, steps = FileJournal.step, []

    def fail(self, *args):
        step(self, *args)
        steps.append(args)
        if len(steps) == 3:
            raise RuntimeError("no power")

    with monkeypatch.context() as patched:
        patched.setattr(FileJournal, "step", fail)
        call = ("generate", "a cat", "--seed", "1", "-o", "a.mkv", *words, "--set", "num_inference_steps=6")
        assert filmstrip(*call, "--checkpoint-every", "2").exit_code == 1
    (tmp_path / "clip.mkv").unlink()
    done = filmstrip("decode", "a.latents.safetensors")
    assert done.exit_code == 0, done.stderr
    assert np.array_equal(read_video(tmp_path / "a.mkv")[0], read_video(tmp_path / "whole.mkv")[0])
    recorded, whole = (package.read_metadata(tmp_path / name) for name in ("a.mkv", "whole.mkv"))
    assert recorded == whole
