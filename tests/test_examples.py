"""The programs under examples/ run, offline, and make what they say."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from filmstrip import LTXPipeline, TextToVideoZeroControlNetPipeline, export_to_video
from filmstrip.media import read_video
from filmstrip.registry import PUBLIC
from tests import tiny_stable_diffusion
from tests.guards.source import ROOT, Source, expect_none, imports

EXAMPLES = ROOT / "examples"
MADE = {
    "text_to_video": {"star.mp4": 17},
    "image_to_video": {"circle.mp4": 17},
    "batch": {"video-0.mp4": 17, "video-1.mp4": 17, "video-2.mp4": 17},
    "previews": {"square.mp4": 17, "preview-05.png": 1, "preview-20.png": 1},
    "stream_and_cancel": {"first-frame.png": 1},
    "less_memory": {"planned.mp4": 17, "offloaded.mp4": 17},
    "resume": {"circle.mp4": 17},
    "control_by_edges": {"edges.mp4": 8, "drawing.mp4": 8},
}
"""Example to the files that it writes, and the number of frames in each."""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run an example in an empty folder; returns the names that it leaves."""
    monkeypatch.chdir(tmp_path)

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")

    return run


@pytest.fixture
def edge_words(tmp_path):
    """The words that the example of control takes: a clip and tiny checkpoints, since none comes in the box."""
    pytest.importorskip("cv2")
    places = np.stack(np.meshgrid(np.arange(32), np.arange(32)))
    clip = [Image.fromarray(np.uint8(255 * (places.sum(0) > 24 + time))) for time in range(8)]
    export_to_video([frame.convert("RGB") for frame in clip], str(tmp_path / "clip.mp4"), fps=8)
    control = tiny_stable_diffusion.controlnet(0)
    control.save_pretrained(tmp_path / "control")
    pipeline = TextToVideoZeroControlNetPipeline(**tiny_stable_diffusion.parts(), controlnet=control)
    pipeline.save_pretrained(tmp_path / "model")
    return [tmp_path / name for name in ("clip.mp4", "model", "control")]


def num_frames(path):
    return 1 if path.suffix == ".png" else len(read_video(path)[0])


def test_every_example_is_run_here_and_listed():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(MADE)
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}.py]({name}.py)" in page for name in MADE)


@pytest.mark.parametrize("name", MADE)
def test_an_example_makes_what_it_says(run, tmp_path, request, name):
    run(name, *(request.getfixturevalue("edge_words") if name == "control_by_edges" else ()))
    assert {file: num_frames(tmp_path / file) for file in MADE[name]} == MADE[name]


def test_the_resumed_video_is_the_one_that_would_have_been_made(run):
    names = run("resume")
    pipe = LTXPipeline.from_pretrained("shapes")
    frames = pipe(**names["call"], generator=torch.Generator().manual_seed(7)).frames[0]
    assert all(np.array_equal(one, other) for one, other in zip(names["frames"], frames, strict=True))
    assert not list(Path("unfinished").iterdir())


def test_previews_come_nearer_to_the_video(run, tmp_path):
    names = run("previews")
    last = np.asarray(names["frames"][0], dtype=float)
    away = [np.abs(np.asarray(Image.open(tmp_path / f"preview-{step:02}.png")) - last).mean() for step in (5, 10, 20)]
    assert away[0] > away[1] > 10 * away[2]
    assert away[2] < 5  # the video's first frame has seen the frames after it, a preview has not


def test_an_offloaded_video_is_the_same(run):
    names = run("less_memory")
    assert all(np.array_equal(one, other) for one, other in zip(names["planned"], names["offloaded"], strict=True))


def test_a_batch_takes_its_prompts_from_a_file(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red star spinning\n", encoding="utf-8")
    assert run("batch", "prompts.txt")["prompts"] == ["a red star spinning"]
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["video-0.mp4"]


def test_examples_use_public_names_only():
    sources = [Source(path.stem, path.read_text(encoding="utf-8")) for path in EXAMPLES.glob("*.py")]
    found = [(source.module, *target.split(".")) for source in sources for _, target in imports(source)]
    expect_none(
        f"{module}: {rest}" for module, library, *rest in found if library == "filmstrip" and not {*rest} <= {*PUBLIC}
    )
