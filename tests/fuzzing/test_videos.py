"""Videos of strangers, what is written in them, and unfinished ones: each serves, or one sentence says why not."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from filmstrip import export_to_video, load_image, load_video
from filmstrip.cli.app import app
from filmstrip.jobs import videos
from filmstrip.media import metadata, read_metadata
from filmstrip.resume import file as kept
from tests.cli.tiny_checkpoint import SMALL, tiny_pipeline
from tests.fuzzing.mutations import Figures, changed, damaged, judged, tries, unclear


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a tiny checkpoint, a picture, and a video that was made of both, finished and unfinished."""
    folder = tmp_path_factory.mktemp("made")
    tiny_pipeline().save_pretrained(folder / "tiny")
    Image.new("RGB", (64, 64), "red").save(folder / "first.png")
    words = [
        "generate",
        "a cat",
        "--model",
        folder / "tiny",
        "--image",
        folder / "first.png",
        *SMALL,
        "--seed",
        "5",
        "-q",
    ]
    with pytest.MonkeyPatch.context() as patched:
        run(*words, "-o", folder / "whole.mkv")
        patched.setattr(videos, "sheet_path", lambda *_: 1 / 0)
        run(*words, "-o", folder / "cut.mkv", "--contact-sheet")
    assert {"whole.mkv", "cut.latents.safetensors"} <= {one.name for one in folder.iterdir()}
    return folder


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def judge(figures, result, names, about):
    """Count what is wrong with how a command has ended."""
    figures.tried += 1
    if result.exit_code == 0:
        return
    figures.refused += 1
    sentence = result.stderr.splitlines()[-1] if result.stderr else ""
    if result.exit_code != 2 or not sentence.startswith("Error: "):
        figures.add("traceback", f"{result.exit_code} {sentence} {result.exception!r}", about)
    elif wrong := unclear(sentence, names):
        figures.add("unclear", f"{wrong}: {sentence}", about)


def test_what_is_written_in_a_video_that_is_made_again(made, tmp_path):
    record = {name: value for name, value in read_metadata(made / "whole.mkv").items() if not name.startswith("_")}
    bare = tmp_path / "received.png"
    Image.new("RGB", (8, 8)).save(bare)
    (tmp_path / "tiny").symlink_to(made / "tiny")
    (tmp_path / "first.png").symlink_to(made / "first.png")

    figures = Figures()

    @tries(40)
    @given(changed(record))
    def check(content):
        beside = bare.with_suffix(".json")
        for one in tmp_path.glob("*.json"):
            one.unlink()
        if isinstance(content, dict):
            metadata.write_beside(bare, content, {})
        else:
            beside.write_text(json.dumps(content))
        for words in (("rerun", bare, "--dry-run", "-q"), ("show", bare)):
            judge(figures, run(*words), ("received", "first.png", "tiny", "cuda", "--"), content)

    check()
    figures.settle()


def test_unfinished_videos_that_are_made_by_hand(made, tmp_path):
    whole = made / "cut.latents.safetensors"
    with safe_open(whole, "pt") as opened:
        header = json.loads(opened.metadata()["filmstrip"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    path = tmp_path / whole.name

    figures = Figures()

    @tries(40)
    @given(changed(header["value"]))
    def check(value):
        try:
            sealed = kept.sealed({**header, "value": value}, tensors)
        except ValueError:  # no JSON
            return
        save_file(tensors, path, metadata={"filmstrip": sealed})
        for words in (("show", path), ("decode", path, "-q", "-o", tmp_path / "a.mkv", "--overwrite")):
            judge(figures, run(*words), (path.name, "tiny", "first.png", "a.mkv"), value)

    check()
    figures.settle()


def clips(folder):
    """Small videos and pictures of every kind that is written here, as bytes under their suffixes."""
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (32, 48, 3), dtype=np.uint8)) for _ in range(5)]
    for suffix in (".mp4", ".mov", ".webm", ".mkv", ".gif", ".webp"):
        yield suffix, export_to_video(frames, folder / f"clip{suffix}")
    for suffix in (".png", ".jpg", ".bmp", ".tiff"):
        frames[0].save(folder / f"picture{suffix}")
        yield suffix, folder / f"picture{suffix}"


def test_bytes_of_clips_and_pictures(tmp_path):
    whole = {suffix: Path(path).read_bytes() for suffix, path in clips(tmp_path)}

    figures = Figures()

    @tries(300)
    @given(st.data(), st.sampled_from(sorted(whole)))
    def check(data, suffix):
        content = data.draw(damaged(whole[suffix]))
        path = tmp_path / f"received{suffix}"
        path.write_bytes(content)
        for read in (load_image, load_video, read_metadata):
            with judged(figures, path.name, about=(read.__name__, suffix, content[:60])):
                read(str(path))

    check()
    figures.settle()
