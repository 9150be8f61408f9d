"""What is left of a video whose making is cut off, and `filmstrip decode`, which finishes it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from filmstrip import read_metadata
from filmstrip.jobs import videos
from filmstrip.media import read_video
from filmstrip.resume.unfinished import LoopState, read_unfinished
from tests.cli.tiny_checkpoint import SMALL, tiny_pipeline

ROOT = Path(__file__).parents[2]
KEPT = "out.latents.safetensors"


@pytest.fixture(scope="module")
def deaths(checkpoint, tmp_path_factory):
    """What was left after each way of dying."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    command = [sys.executable, str(ROOT / "tests" / "cli" / "killing.py"), str(checkpoint)]
    done = subprocess.run(
        command, cwd=tmp_path_factory.mktemp("deaths"), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_killed_run_is_finished_bit_for_bit(deaths):
    killed = {name: one for name, one in deaths.items() if name.startswith("SIGKILL")}
    assert all(one["signal"] == 9 for one in killed.values())
    assert not any(one["half"] for one in killed.values())
    nothing_done = {"SIGKILL at encoding", "SIGKILL at the first step"}
    assert {name for name, one in killed.items() if not one["is_kept"]} == nothing_done
    assert all(one["finished"] for name, one in killed.items() if name not in nothing_done)
    assert [name for name, one in killed.items() if one["target"]] == ["SIGKILL at just renamed"]


def test_an_interrupted_run_leaves_what_is_done_and_nothing_else(deaths):
    interrupted = {name: one for name, one in deaths.items() if name.startswith("SIGINT")}
    assert len(interrupted) == 7
    for name, one in interrupted.items():
        assert (one["status"], one["half"], one["target"], one["parts"]) == (130, False, False, 0), name
        assert one["is_kept"] == (name != "SIGINT at encoding"), name
        assert one["finished"] or not one["is_kept"], name


def test_other_ends_are_as_orderly(deaths):
    for name, status in (("SIGTERM", 143), ("SIGHUP", 129)):
        one = deaths[f"{name} at decoding"]
        assert (one["status"], one["half"], one["target"], one["parts"]) == (status, False, False, 0), name
        assert one["is_kept"] and one["finished"], name


def test_kills_at_random_moments_lose_nothing(deaths):
    moments = {name: one for name, one in deaths.items() if name.startswith("random")}
    assert len(moments) == 5
    for name, one in moments.items():
        assert not one["half"], name
        assert one["finished"] or not one["is_kept"], name


@pytest.fixture
def cut_off(filmstrip, checkpoint, tmp_path, monkeypatch):
    """Begin a video that is cut off when it is decoded; returns what was said."""

    def run(*words):
        with monkeypatch.context() as patched:
            patched.setattr(videos, "sheet_path", lambda *_: (_ for _ in ()).throw(RuntimeError("no power")))
            call = ("generate", "a cat", *SMALL, "--model", checkpoint, "--seed", "5", "-o", "out.mkv")
            result = filmstrip(*call, "--contact-sheet", *words)
        assert result.exit_code == 1
        (tmp_path / "out.mkv").unlink(missing_ok=True)
        (tmp_path / "out.json").unlink(missing_ok=True)
        return result

    return run


def test_an_error_says_how_to_go_on_and_decode_does(filmstrip, cut_off, checkpoint, tmp_path):
    result = cut_off()
    assert f"filmstrip decode {KEPT}" in " ".join(result.stderr.split())
    done = filmstrip("decode", KEPT, "--json")
    assert done.exit_code == 0, done.stderr
    [file] = json.loads(done.stdout)["files"]
    assert file["path"] == str(tmp_path / "out.mkv") and set(file["seconds"]) == {"load", "decode"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.mkv", "out.png"]

    filmstrip("generate", "a cat", *SMALL, "--model", checkpoint, "--seed", "5", "-o", "whole.mkv")
    assert np.array_equal(read_video("out.mkv")[0], read_video("whole.mkv")[0])
    assert read_metadata(Path("out.mkv")) == read_metadata(Path("whole.mkv"))
    assert filmstrip("rerun", "out.mkv", "--dry-run").exit_code == 0


def test_show_says_how_far_it_is(filmstrip, cut_off, checkpoint, monkeypatch):
    cut_off()
    assert "all steps are done" in filmstrip("show", KEPT).stdout
    content = json.loads(filmstrip("show", KEPT, "--json").stdout)
    assert (content["prompt"], content["target"], content["unfinished"]["is_denoised"]) == ("a cat", "out.mkv", True)
    unfinished = read_unfinished(KEPT)
    monkeypatch.setattr(
        "filmstrip.resume.unfinished.read_unfinished",
        lambda _: replace(unfinished, latents=None, loops=[LoopState(1, torch.zeros(1), {}, unfinished.noise)]),
    )
    assert "1 of 2 steps are done" in filmstrip("show", KEPT).stdout


def test_decoding_loads_the_autoencoder_alone(filmstrip, cut_off, checkpoint, tmp_path, monkeypatch):
    cut_off()
    bare = shutil.copytree(checkpoint, tmp_path / "bare")
    for name in ("transformer", "text_encoder"):
        for weights in (bare / name).glob("*.safetensors"):
            weights.unlink()
    kept = read_unfinished(KEPT)
    kept.about["record"]["model"] = str(bare)
    kept.save(KEPT)
    assert filmstrip("decode", KEPT, "-o", "again.mkv").exit_code == 0


def test_an_existing_file_is_not_replaced_unless_named(filmstrip, cut_off, tmp_path):
    cut_off()
    (tmp_path / "out.mkv").write_text("mine")
    result = filmstrip("decode", KEPT, "-q")
    assert result.stdout.strip() == str(tmp_path / "out-2.mkv")
    assert (tmp_path / "out.mkv").read_text() == "mine"


def test_what_is_kept_of_an_earlier_run_is_not_replaced(cut_off, tmp_path):
    cut_off()
    before = (tmp_path / KEPT).read_bytes()
    cut_off("--negative-prompt", "a dog")
    assert (tmp_path / KEPT).read_bytes() == before
    assert (tmp_path / "out.latents-2.safetensors").exists()


def test_a_file_that_a_pipeline_has_kept_is_finished_by_the_command(filmstrip, checkpoint, tmp_path):
    from filmstrip import LTXPipeline

    pipeline = LTXPipeline.from_pretrained(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    call = {"prompt": "a cat", "output_type": "uint8"}
    whole = pipeline(**call, generator=torch.Generator().manual_seed(3)).frames
    pipeline.keep_unfinished(tmp_path / "kept", every=1)
    with pytest.raises(ZeroDivisionError):
        pipeline(
            **call,
            generator=torch.Generator().manual_seed(3),
            callback_on_step_end=lambda _, step, *__: {} if step == 0 else 1 / 0,
        )
    [kept] = (tmp_path / "kept").iterdir()
    result = filmstrip("decode", kept, "-o", "out.mkv", "-q", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert np.array_equal(read_video(tmp_path / "out.mkv")[0], whole[0])
    assert read_metadata(tmp_path / "out.mkv")["prompt"] == "a cat"


def test_mistakes_are_one_sentence(filmstrip, cut_off, checkpoint, tmp_path):
    cut_off()
    whole = (tmp_path / KEPT).read_bytes()
    (tmp_path / "short").write_bytes(whole[:-10])
    (tmp_path / "other").write_text("a poem")
    kept = read_unfinished(KEPT)
    kept.about["record"]["model"] = str(tmp_path / "gone")
    kept.save(tmp_path / "homeless")
    for words, said in {
        ("none",): "No such file",
        ("short",): "is cut off, damaged or no file of an unfinished video",
        ("other",): "is cut off, damaged or no file of an unfinished video",
        ("homeless",): "gone",
        (KEPT, "-o", "a.avi"): "can't be written as '.avi'",
        (KEPT, "--device", "abacus"): "unknown device",
    }.items():
        result = filmstrip("decode", *words)
        assert (result.exit_code, result.stdout) in ((2, ""), (1, "")), words
        assert said in result.stderr and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert (tmp_path / KEPT).read_bytes() == whole
    result = filmstrip("generate", "a cat", "--checkpoint-every", "0", "--model", checkpoint, "--dry-run")
    assert result.exit_code == 2 and "--checkpoint-every must be at least 1" in result.stderr


def test_a_pipeline_without_a_checkpoint_is_finished_from_python(filmstrip, tmp_path):
    pipeline = tiny_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.keep_unfinished(tmp_path)
    pipeline.decode = lambda *_: (_ for _ in ()).throw(RuntimeError("no power"))
    with pytest.raises(RuntimeError):
        pipeline("a cat", height=64, width=64, num_frames=9, num_inference_steps=1)
    [kept] = tmp_path.iterdir()
    result = filmstrip("decode", kept)
    assert result.exit_code == 2 and "pipeline.finish(" in result.stderr


def test_a_folder_that_can_not_be_written_is_told_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="can't be kept in"):
        tiny_pipeline().keep_unfinished(tmp_path / "file")
    with pytest.raises(ValueError, match="every must be a whole number"):
        tiny_pipeline().keep_unfinished(tmp_path, every=0)


def test_a_fallback_in_decoding_is_told(filmstrip, checkpoint, tmp_path, monkeypatch):
    from filmstrip import AutoencoderKLLTXVideo

    stream = AutoencoderKLLTXVideo.decode_stream

    def fail_in_large_chunks(self, *args, coding=None):
        if (coding or self.coding).frames_at_once == 8:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return stream(self, *args, coding=coding)

    call = ("generate", "a cat", *SMALL, "--model", checkpoint, "--seed", "5")
    filmstrip(*call, "-o", "whole.mkv")
    monkeypatch.setattr(AutoencoderKLLTXVideo, "decode_stream", fail_in_large_chunks)
    result = filmstrip(*call, "-o", "out.mkv")
    assert "Note: Decoding ran out of memory and continues in chunks of 2 frames." in result.stderr
    assert filmstrip(*call, "-o", "quiet.mkv", "-q").stderr == ""
    difference = read_video("out.mkv")[0].astype(int) - read_video("whole.mkv")[0]
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("page", ["guide.md", "guide.zh.md"])
def test_the_guide_is_true(filmstrip, checkpoint, tmp_path, monkeypatch, page):
    from filmstrip import LTXPipeline

    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    [section] = [part for part in text.split("\n## ") if "keep_unfinished" in part]
    begin, go_on = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^    filmstrip (.*)$", section, re.MULTILINE)
    monkeypatch.setattr("filmstrip.checkpoints.locate.builtin_folder", lambda name: checkpoint)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    whole = LTXPipeline.from_pretrained("shapes")(prompt="a red star spinning").frames[0]
    torch.manual_seed(3)
    with monkeypatch.context() as patched:
        patched.setattr(LTXPipeline, "decode", lambda *_: (_ for _ in ()).throw(RuntimeError("no power")))
        with pytest.raises(RuntimeError):
            exec(begin, {})
        assert filmstrip(*shlex.split(commands[0])).exit_code == 1
    found = {}
    exec(go_on, found)
    assert all(np.array_equal(one, other) for one, other in zip(found["frames"], whole, strict=True))
    assert not list(Path("unfinished").iterdir())
    assert filmstrip(*shlex.split(commands[1])).exit_code == 0
    assert Path("star.mp4").exists() and not list(Path().glob("*.safetensors"))
