"""What is written where: nothing is replaced that nobody named, and nothing is lost that was computed."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filmstrip.jobs import videos
from filmstrip.media import read_video
from filmstrip.resume import file
from filmstrip.resume.unfinished import read_unfinished
from tests.cli.tiny_checkpoint import SMALL

KEPT = "out.latents.safetensors"


@pytest.fixture
def generate(filmstrip, checkpoint):
    """`filmstrip generate` with the tiny checkpoint."""
    return lambda *words: filmstrip("generate", *SMALL, "--model", checkpoint, "--seed", "5", *words)


def everything(folder):
    """Each file below a folder with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def picture(path, size=(64, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 90).convert("RGB").save(path)
    return path


@pytest.fixture
def beside(monkeypatch):
    """Have something happen while a video is written, as if another process did it."""

    def arrange(happens):
        add = videos._Samples.add

        def added(self, frames):
            happens()
            add(self, frames)

        monkeypatch.setattr(videos._Samples, "add", added)

    return arrange


def test_an_existing_file_is_replaced_when_told_only(generate, tmp_path):
    (tmp_path / "out.mkv").write_text("mine")
    result = generate("a cat", "-o", "out.mkv")
    assert "out.mkv exists, so this video is out-2.mkv; --overwrite replaces it." in result.stderr
    assert (tmp_path / "out.mkv").read_text() == "mine" and len(read_video("out-2.mkv")[0]) == 9
    assert generate("a cat", "-o", "out.mkv", "--overwrite").exit_code == 0
    assert len(read_video("out.mkv")[0]) == 9


def test_a_file_that_appears_meanwhile_is_not_replaced(generate, beside, tmp_path):
    beside(lambda: (tmp_path / "out.mkv").write_text("mine"))
    result = generate("a cat", "-o", "out.mkv", "-q", "--contact-sheet")
    assert result.stdout.strip() == "out-2.mkv"
    assert (tmp_path / "out.mkv").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"out.mkv", "out-2.mkv", "out-2.json", "out-2.png"}


def test_two_runs_with_one_name_take_nothing_from_each_other(generate, beside, tmp_path, checkpoint, filmstrip):
    """The other run begins and ends while this one is written: both have kept their latents by then."""
    other = []

    def run_another():
        if not other:
            other.append(None)
            other[0] = generate("a dog", "-o", "out.mkv", "-q")

    beside(run_another)
    first = generate("a cat", "-o", "out.mkv", "-q", "--contact-sheet")
    assert (first.exit_code, other[0].exit_code) == (0, 0)
    assert {first.stdout.strip(), other[0].stdout.strip()} == {"out.mkv", "out-2.mkv"}
    assert not list(tmp_path.glob("*.safetensors")) and not list(tmp_path.glob(".*"))
    frames = [read_video(name)[0] for name in ("out.mkv", "out-2.mkv")]
    assert not np.array_equal(*frames)


def test_names_that_nobody_gave_differ(generate, beside, tmp_path):
    other = []

    def run_another():
        if not other:
            other.append(None)
            other[0] = generate("x" * 60 + " of a dog", "-q")

    beside(run_another)
    assert generate("x" * 60 + " of a cat", "-q", "--contact-sheet").exit_code == 0
    assert len(list(Path("outputs").glob("*.mp4"))) == 2


def test_a_run_that_ends_removes_only_what_it_kept(generate, tmp_path):
    (tmp_path / KEPT).write_text("another run's")
    assert generate("a cat", "-o", "out.mkv").exit_code == 0
    assert (tmp_path / KEPT).read_text() == "another run's"


@pytest.mark.parametrize(
    ("words", "inputs"),
    [
        (["--image", "boat.png", "-o", "boat.mp4", "--contact-sheet"], ["boat.png"]),
        (["--video", "frames", "-o", "frames/1.mp4", "--contact-sheet"], [f"frames/{n}.png" for n in range(1, 10)]),
        (["--image", "boat.png", "-o", "boat", "--contact-sheet"], ["boat.png"]),
    ],
    ids=["picture", "frame", "folder"],
)
def test_no_input_is_replaced(generate, tmp_path, words, inputs):
    for name in inputs:
        picture(tmp_path / name)
    before = everything(tmp_path)
    result = generate("a boat", *words)
    assert result.exit_code == 0, result.stderr
    assert before.items() <= everything(tmp_path).items()


def test_nothing_is_replaced_that_nobody_named(generate, tmp_path):
    for name in ("a-1.mp4", "a.png", "a-1.png", "a-2.json", "a-1.latents.safetensors", "b.png", "b.json"):
        (tmp_path / name).write_text("mine")
    assert generate("a cat", "-o", "c.mkv").exit_code == 0
    shutil.move("c.json", "b.json")  # one of ours, of another video
    before = everything(tmp_path)
    for words in (["-o", "a.mp4", "--num-videos", "2"], ["-o", "b.mp4", "--overwrite"], ["-o", "c.mp4"]):
        result = generate("a cat", "--contact-sheet", *words)
        assert result.exit_code == 0, result.stderr
    assert before.items() <= everything(tmp_path).items()


@pytest.fixture
def full(monkeypatch):
    """Let no file be kept in some folders, as on a full disk."""

    def arrange(*folders):
        save = file.save_file

        def filled(tensors, path, metadata):
            if Path(path).parent.resolve() in [folder.resolve() for folder in folders]:
                raise OSError(28, "No space left on device")
            save(tensors, path, metadata)

        monkeypatch.setattr(file, "save_file", filled)

    return arrange


def no_power(*_):
    raise RuntimeError("no power")


def test_latents_that_do_not_fit_beside_the_video_are_kept_elsewhere(filmstrip, generate, full, tmp_path, monkeypatch):
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    full(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(videos, "sheet_path", no_power)
        result = generate("a cat", "-o", "out.mkv", "--contact-sheet", "-q")
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert f"is kept in {spare / KEPT}" in said and f"filmstrip decode {spare / KEPT} -o out.mkv" in said
    (tmp_path / "out.mkv").unlink()
    assert filmstrip("decode", spare / KEPT, "-o", "out.mkv", "-q").exit_code == 0
    assert len(read_video("out.mkv")[0]) == 9 and not list(spare.iterdir())


def test_it_is_told_even_quietly_that_nothing_can_be_kept(generate, full, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    full(tmp_path, Path.home())
    result = generate("a cat", "-o", "out.mkv", "-q")
    assert result.exit_code == 0 and "nor elsewhere: an accident loses the run" in " ".join(result.stderr.split())


def test_a_disk_without_room_is_told_before_any_work(generate, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    result = generate("a cat", "-o", "out.mkv")
    assert result.exit_code == 2 and "0 MB left" in result.stderr


@pytest.mark.parametrize("target", ["/tmp/elsewhere/x.mkv", "../x.mkv", "..", "C:\\\\x\\\\y.mkv", "", None, 7])
def test_a_received_file_does_not_say_where_its_video_goes(filmstrip, generate, tmp_path, monkeypatch, target):
    with monkeypatch.context() as patched:
        patched.setattr(videos, "sheet_path", no_power)
        generate("a cat", "-o", "out.mkv", "--contact-sheet")
    received = tmp_path / "received"
    received.mkdir()
    kept = read_unfinished(KEPT)
    kept.about["target"] = target
    kept.save(received / KEPT)
    result = filmstrip("decode", received / KEPT, "-q")
    assert result.exit_code == 0, result.stderr
    assert Path(result.stdout.strip()).parent == received


@pytest.mark.skipif(os.name == "nt", reason="processes are not looked for there")
def test_what_a_killed_run_has_left_is_removed_at_the_next_start(generate, tmp_path):
    from filmstrip.files import partial_path

    ours = partial_path(tmp_path / "out.mkv")
    gone = ours.with_name(ours.name.replace(f"-{os.getpid()}-", "-4194303-"))  # a process that can't be
    other = ours.with_name(".out.mkv.0badcafe-4194303-00000000.part")  # of another machine
    running = ours.with_name(ours.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
    for path in (gone, other, running):
        path.touch()
    assert generate("a cat", "-o", "out.mkv").exit_code == 0
    assert (gone.exists(), other.exists(), running.exists()) == (False, True, True)
