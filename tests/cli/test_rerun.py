"""`filmstrip rerun`: the same frames again, from what a video says about itself."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from filmstrip import export_to_video, read_metadata
from filmstrip.media import read_video
from tests.cli.tiny_checkpoint import SMALL


@pytest.fixture
def made(filmstrip, checkpoint, tmp_path):
    """The file of a video made from a picture, by a run with many options."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "first.png")
    words = ("-o", "out.mkv", "--seed", "5", "--image", "first.png", "--fps", "12", "--set", "guidance_rescale=0.5")
    result = filmstrip("generate", "a cat", "--model", checkpoint, *SMALL, *words, "--dtype", "bfloat16")
    assert result.exit_code == 0, result.stderr
    return tmp_path / "out.mkv"


def test_it_gives_the_same_frames_and_the_same_record(filmstrip, made):
    result = filmstrip("rerun", made.name)
    assert result.exit_code == 0, result.stderr
    again = made.with_name("out-rerun.mkv")
    assert np.array_equal(read_video(again)[0], read_video(made)[0])
    assert read_metadata(again) == read_metadata(made)


@pytest.mark.parametrize("name", ["out.mp4", "out.gif"])
def test_a_file_comes_out_byte_for_byte(filmstrip, checkpoint, tmp_path, name):
    filmstrip("generate", "a cat", "--model", checkpoint, *SMALL, "-o", name, "-q")
    assert filmstrip("rerun", name, "-o", f"again-{name}", "-q").exit_code == 0
    assert (tmp_path / f"again-{name}").read_bytes() == (tmp_path / name).read_bytes()


def test_what_is_set_changes(filmstrip, made, tmp_path):
    result = filmstrip("rerun", made.name, "-o", "other.mkv", "--set", "num_frames=5", "--set", "frame_rate=6")
    assert result.exit_code == 0, result.stderr
    frames, fps = read_video(tmp_path / "other.mkv")
    assert (len(frames), fps) == (5, 6)
    assert read_metadata(tmp_path / "other.mkv")["settings"]["guidance_rescale"] == 0.5


def test_show_says_what_it_was_made_with(filmstrip, made):
    said = dict(line.split(maxsplit=1) for line in filmstrip("show", made.name).stdout.splitlines())
    assert (said["prompt"], said["seed"], said["fps"], said["dtype"]) == ("a cat", "5", "12", "bfloat16")
    assert said["image"].endswith("first.png")
    assert json.loads(filmstrip("show", made.name, "--json").stdout) == {"file": made.name, **read_metadata(made)}


def test_show_steers_no_terminal_and_takes_records_of_any_form(filmstrip, tmp_path):
    record = {
        "prompt": "a\x1b[2Jb\nc",
        "settings": [1],
        "inputs": {"image": "x"},
        "model": {"a": None},
        "seed": "\x9b1m",
    }
    export_to_video(np.zeros((2, 16, 16, 3), np.uint8), tmp_path / "odd.mkv", metadata=record)
    result = filmstrip("show", "odd.mkv")
    assert result.exit_code == 0, result.stderr
    assert "a\\x1b[2Jb\\nc" in result.stdout
    assert all(letter.isprintable() or letter == "\n" for letter in result.stdout)


@pytest.mark.parametrize(
    ("name", "said"),
    [("none.mp4", "no file"), ("none.latents.safetensors", "no file"), ("x.latents.safetensors", "unfinished video")],
)
def test_show_needs_a_file_of_ours(filmstrip, tmp_path, name, said):
    save_file({"a": torch.zeros(1)}, tmp_path / "x.latents.safetensors")
    result = filmstrip("show", name)
    assert result.exit_code == 2 and said in result.stderr


def test_it_says_that_the_input_is_gone(filmstrip, made, tmp_path):
    (tmp_path / "first.png").unlink()
    result = filmstrip("rerun", made.name)
    assert result.exit_code == 2
    assert "first.png" in result.stderr
    assert "is gone" in result.stderr


def test_it_says_that_the_input_has_changed(filmstrip, made, tmp_path):
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "first.png")
    result = filmstrip("rerun", made.name)
    assert result.exit_code == 2
    assert "has changed" in result.stderr


def test_another_version_is_noted(filmstrip, made, monkeypatch):
    from filmstrip.resume import unfinished

    monkeypatch.setattr(unfinished, "versions", lambda: {"torch": "99.0"})
    result = filmstrip("rerun", made.name, "--dry-run")
    assert "torch" in result.stderr
    assert "99.0" in result.stderr
