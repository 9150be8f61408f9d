"""Planning for a memory at the command."""

from __future__ import annotations

import json
import re

import pytest

SMALL = ("--num-frames", "9", "--steps", "2", "--seed", "1")


def test_a_video_is_made_within_a_memory_and_made_again_the_same(filmstrip, tmp_path):
    target, again = tmp_path / "star.gif", tmp_path / "again.gif"
    made = filmstrip("generate", "a red star", "-o", target, "--memory", "100MB", "--device", "cpu", *SMALL)
    assert made.exit_code == 0, made.stderr
    for word in ("memory:", "weights:", "residency:", "decode:"):
        assert word in made.stderr
    assert filmstrip("rerun", target, "-o", again).exit_code == 0
    assert target.read_bytes() == again.read_bytes()


def test_what_does_not_fit_is_told_with_what_would_before_anything_is_written(filmstrip, tmp_path):
    target = tmp_path / "star.gif"
    made = filmstrip("generate", "a red star", "-o", target, "--memory", "1MB", "--device", "cpu", *SMALL)
    assert made.exit_code == 2
    assert "does not fit into 1 MB on cpu" in made.stderr
    assert "Give " in made.stderr
    assert not list(tmp_path.iterdir())


def test_a_dry_run_shows_the_plan(filmstrip):
    words = ("generate", "a red star", "--dry-run", "--memory", "100MB", "--device", "cpu", *SMALL)
    assert "residency" in filmstrip(*words).stdout
    plan = json.loads(filmstrip(*words, "--json").stdout)["memory"]
    assert max(plan["peaks"].values()) <= plan["memory"] == 100_000_000


@pytest.mark.parametrize("device", [None, "cpu"])
def test_inspecting_shows_how_a_model_fits(filmstrip, device):
    given = () if device is None else ("--device", device)
    shown = filmstrip("inspect", "shapes", "--memory", "1GB", *given)
    assert shown.exit_code == 0, shown.stderr
    assert f"1 GB on {device}" in shown.stdout or device is None
    plan = json.loads(filmstrip("inspect", "shapes", "--memory", "1GB", *given, "--json").stdout)["plan"]
    assert set(plan["peaks"]) == {"encode", "denoise", "decode"}
    assert {choice["kind"] for choice in plan["choices"]} >= {"weights", "residency"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--memory", "lots"), "'5GB'"),
        (("--memory", "1kB"), "does not fit"),
        (("--device", "cpu"), "without --memory"),
        (("--memory", "1GB", "--device", "cupboard"), "unknown device"),
        (("--size", "64x64"), "--size has no effect without --memory"),
        (("--size", "64x64", "--num-frames", "9"), "--size and --num-frames have no effect without --memory"),
        (("--memory", "1GB", "--size", "large"), "WIDTHxHEIGHT"),
        (("--memory", "1GB", "--size", "65x64"), "multiple of"),
        (("--memory", "1GB", "--num-frames", "0"), "num_frames"),
        (("--memory", "1GB", "--dtype", "int7"), "int7"),
        (("--memory", "1GB", "--quantize", "int2"), "int8"),
        (("--memory", "free", "--device", "xpu"), "there is no xpu here"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(filmstrip, words, said):
    shown = filmstrip("inspect", "shapes", *words)
    assert shown.exit_code == 2
    assert said in shown.stderr
    assert "Traceback" not in shown.stderr


def planned(filmstrip, *words):
    result = filmstrip("inspect", "shapes", "--json", "--memory", "1GB", *words)
    assert result.exit_code == 0, result.stderr
    assert not result.stderr
    return json.loads(result.stdout)["plan"]


def test_a_plan_is_of_the_video_that_is_asked_about(filmstrip):
    usual = planned(filmstrip, "--device", "cpu")
    small, short, wide, quantized = (
        planned(filmstrip, "--device", "cpu", *words)
        for words in (("--size", "32x32"), ("--num-frames", "9"), ("--dtype", "float32"), ("--quantize", "int8"))
    )
    for less in (small, short):
        assert sum(less["activations"].values()) < sum(usual["activations"].values())

    def weights(plan):
        return plan["peaks"]["encode"] - plan["activations"]["encode"]

    assert weights(wide) == pytest.approx(2 * weights(usual), rel=0.01)
    assert weights(quantized) < weights(usual)


def test_a_device_that_is_not_there_is_planned_for_and_said(filmstrip):
    plan = planned(filmstrip, "--device", "xpu")
    assert plan["device"] == "xpu" and plan["host"] is not None
    assert plan["notes"][0] == "There is no xpu here; this is planned as for one with 1 GB."
    here = planned(filmstrip, "--device", "cpu")
    assert here["host"] is None and here["notes"] == []


def test_what_is_tried_is_shown_on_a_terminal_only(filmstrip, monkeypatch):
    from filmstrip.cli import progress

    shown = []

    class Status:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            """Gone."""

        def update(self, line):
            shown.append(line)

    monkeypatch.setattr(progress.Console, "is_terminal", True)
    monkeypatch.setattr(progress.Console, "status", lambda *_: Status())
    for words in (("--json",), ("--quiet",)):
        assert filmstrip("inspect", "shapes", "--memory", "1GB", *words).exit_code == 0
        assert not shown
    assert filmstrip("inspect", "shapes", "--memory", "1GB").exit_code == 0
    assert any("the prompt and the steps" in line for line in shown)
    assert any("decoding" in line for line in shown)


def test_what_does_not_fit_is_told_with_a_video_that_does(filmstrip):
    short = planned(filmstrip, "--device", "cpu", "--num-frames", "9")
    memory = f"{1.2 * max(short['peaks'].values()) / 1e6:.0f}MB"
    words = ("inspect", "shapes", "--memory", memory, "--device", "cpu", "--num-frames")
    refused = filmstrip(*words, "641")
    assert refused.exit_code == 2
    smaller = re.search(r", or make (\d+) frames?", refused.stderr)
    assert smaller, refused.stderr
    assert int(smaller[1]) >= 9
    assert filmstrip(*words, smaller[1]).exit_code == 0
