"""`--quantize`: the same video from smaller weights, again and after a run was cut off."""

import json

import numpy as np
import pytest

from filmstrip import read_metadata
from filmstrip.cli import making
from filmstrip.generation.keeping import read_unfinished
from filmstrip.media import read_video
from tests.cli.tiny_checkpoint import SMALL

pytest.importorskip("torchao")


def generate(filmstrip, checkpoint, *words):
    return filmstrip("generate", "a cat", "--model", checkpoint, *SMALL, "--seed", "5", *words)


@pytest.mark.parametrize("kind", ["int8", "fp8", "int4"])
def test_it_says_what_it_did_and_rerun_does_it_again(filmstrip, checkpoint, tmp_path, kind):
    assert generate(filmstrip, checkpoint, "-o", "whole.mkv").exit_code == 0
    result = generate(filmstrip, checkpoint, "-o", "small.mkv", "--quantize", kind)
    assert result.exit_code == 0, result.stderr
    assert f"quantized:   transformer, {kind}: 20 of 27 linear layers, 7 kept as sensitive" in result.stderr
    assert read_metadata(tmp_path / "small.mkv")["quantize"] == kind
    assert "quantize" not in read_metadata(tmp_path / "whole.mkv")
    frames, whole = (read_video(tmp_path / name)[0] for name in ("small.mkv", "whole.mkv"))
    assert not np.array_equal(frames, whole)
    assert filmstrip("rerun", "small.mkv", "-o", "again.mkv").exit_code == 0
    assert np.array_equal(read_video(tmp_path / "again.mkv")[0], frames)


def test_a_run_that_was_cut_off_is_finished_with_the_same_weights(filmstrip, checkpoint, tmp_path, monkeypatch):
    words = ("--quantize", "int8", "--checkpoint-every", "1", "--steps", "3")
    assert generate(filmstrip, checkpoint, "-o", "whole.mkv", *words).exit_code == 0
    steps = []

    def stop(progress, event):
        steps.append(event.stage)
        if steps.count("denoise") == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(making.Progress, "show", stop)
        generate(filmstrip, checkpoint, "-o", "out.mkv", *words)
    unfinished = read_unfinished(tmp_path / "out.latents.safetensors")
    assert unfinished.quantized == {"transformer": "int8"} and not unfinished.is_denoised
    result = filmstrip("decode", "out.latents.safetensors")
    assert result.exit_code == 0, result.stderr
    assert "may differ" not in result.stderr
    assert np.array_equal(read_video(tmp_path / "out.mkv")[0], read_video(tmp_path / "whole.mkv")[0])


def test_it_comes_before_the_plan(filmstrip, checkpoint):
    def transformer(*words):
        result = generate(filmstrip, checkpoint, "--dry-run", "--json", "--memory", "1GB", *words)
        assert result.exit_code == 0, result.stderr
        memory = json.loads(result.stdout)["memory"]
        return memory["peaks"]["denoise"] - memory["activations"]["denoise"]

    assert transformer("--quantize", "int8") < transformer() - 50_000
    result = generate(filmstrip, checkpoint, "-o", "fitted.mkv", "--memory", "1GB", "--quantize", "fp8")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.index("quantized:") < result.stderr.index("memory:")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--quantize", "int3"], "weights are quantised as int8, fp8, int4; got 'int3'"),
        (["--quantize", "int4", "--memory", "1GB", "--dry-run"], "int4 is packed by the device"),
    ],
)
def test_what_can_t_be_is_said_before_any_work(filmstrip, checkpoint, tmp_path, words, error):
    result = generate(filmstrip, checkpoint, *words)
    assert result.exit_code == 2
    assert error in f"{result.stderr} {result.exception}"
    assert list(tmp_path.iterdir()) == []


def test_without_torchao_the_extra_is_named(filmstrip, outline, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchao.quantization", None)
    result = filmstrip("generate", "a cat", "--model", outline, *SMALL, "--quantize", "int8")
    assert result.exit_code != 0
    assert "pip install 'filmstrip[quantize]'" in f"{result.stderr} {result.exception}"
