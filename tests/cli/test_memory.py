"""Planning for a memory at the command."""

from __future__ import annotations

import json

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
    ],
)
def test_what_makes_no_sense_is_one_sentence(filmstrip, words, said):
    shown = filmstrip("inspect", "shapes", *words)
    assert shown.exit_code == 2
    assert said in shown.stderr
    assert "Traceback" not in shown.stderr
