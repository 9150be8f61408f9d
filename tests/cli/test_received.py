"""Videos that somebody else made: they fetch nothing by themselves, and one's own tell nothing of one's folders."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from filmstrip import read_metadata
from filmstrip.files import partial_path
from filmstrip.media import metadata, read_video
from filmstrip.sharing import place_of, shared_name
from tests.cli.tiny_checkpoint import SMALL


@pytest.fixture(autouse=True)
def register(tmp_path_factory, monkeypatch):
    """An empty register of paths."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.setenv("LOCALAPPDATA", str(folder))
    return folder / "filmstrip" / "places.json"


@pytest.fixture
def made(filmstrip, checkpoint, tmp_path):
    """The path of a video that was made from a picture in a folder with a telling name."""
    (tmp_path / "alice").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "alice" / "first.png")
    words = ("-o", "out.mkv", "--seed", "5", "--image", tmp_path / "alice" / "first.png")
    result = filmstrip("generate", "a cat", "--model", checkpoint, *SMALL, *words)
    assert result.exit_code == 0, result.stderr
    return tmp_path / "out.mkv"


def rewritten(path, **changes):
    """Let a video's JSON say something else, where the video itself says nothing."""
    record = read_metadata(path) | changes
    bare = path.with_name("received.png")
    Image.new("RGB", (8, 8)).save(bare)
    metadata.write_beside(bare, record, {})
    return bare


def test_a_video_tells_no_path_and_is_made_again_where_it_was_made(filmstrip, made, tmp_path, checkpoint, monkeypatch):
    said = made.read_bytes() + made.with_suffix(".json").read_bytes()
    assert b"first.png" in said and checkpoint.name.encode() in said
    assert b"alice" not in said and str(checkpoint.parent).encode() not in said
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = filmstrip("rerun", made, "-o", "again.mkv")
    assert result.exit_code == 0, result.stderr
    assert read_metadata("again.mkv") == read_metadata(made)


def test_what_is_kept_tells_no_path(filmstrip, checkpoint, tmp_path, monkeypatch):
    from filmstrip.jobs import videos

    with monkeypatch.context() as patched:
        patched.setattr(videos, "sheet_path", lambda *_: 1 / 0)
        filmstrip("generate", "a cat", "--model", checkpoint, *SMALL, "-o", tmp_path / "a.mkv", "--contact-sheet")
    kept = (tmp_path / "a.latents.safetensors").read_bytes()
    assert str(checkpoint.parent).encode() not in kept and str(tmp_path).encode() not in kept
    assert filmstrip("decode", "a.latents.safetensors", "-o", "b.mkv").exit_code == 0


def test_elsewhere_things_are_found_by_their_names(filmstrip, made, register, tmp_path, checkpoint):
    register.unlink()
    result = filmstrip("rerun", made.name, "--dry-run")
    assert result.exit_code == 2 and f"the model ./{checkpoint.name} is gone" in result.stderr
    shutil.copytree(checkpoint, tmp_path / checkpoint.name)
    result = filmstrip("rerun", made.name, "--dry-run")
    assert result.exit_code == 2 and "first.png" in result.stderr and "is gone" in result.stderr
    shutil.copy(tmp_path / "alice" / "first.png", tmp_path)
    assert filmstrip("rerun", made.name, "--dry-run").exit_code == 0
    assert filmstrip("rerun", made.name, "--image", "alice/first.png", "--model", checkpoint, "-q").exit_code == 0


@pytest.mark.parametrize(
    ("words", "there", "gone"),
    [
        (["--paths"], [b"alice"], []),
        (["--no-prompt"], [b'"seed"', b"first.png"], [b"a cat", b"a dog"]),
        (["--no-metadata"], [], [b"a cat", b"a dog", b'"seed"', b"first.png"]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_one_says_how_much_a_video_tells(filmstrip, made, checkpoint, tmp_path, words, there, gone):
    call = ("--image", tmp_path / "alice" / "first.png", "--negative-prompt", "a dog", "-o", "told.mkv")
    result = filmstrip("generate", "a cat", "--model", checkpoint, *SMALL, *call, *words)
    assert result.exit_code == 0, result.stderr
    beside = tmp_path / "told.json"
    said = (tmp_path / "told.mkv").read_bytes() + (beside.read_bytes() if beside.exists() else b"")
    assert all(word in said for word in there) and not any(word in said for word in gone)


def test_a_received_video_fetches_nothing_without_a_word(filmstrip, made, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *args, **_: asked.append(args))
    monkeypatch.setattr("filmstrip.media.download.download", lambda *args: asked.append(args))
    address = "https://user:secret@example.com/a.png?signature=1"
    inputs = {"image": read_metadata(made)["inputs"]["image"] | {"source": address}}
    received = rewritten(made, model="somebody/model", inputs=inputs)
    refused = filmstrip("rerun", received.name)
    assert refused.exit_code == 2 and "--fetch gets that" in refused.stderr
    assert "somebody/model" in refused.stderr and "https://example.com/a.png" in refused.stderr
    assert "secret" not in refused.stderr and "signature" not in refused.stderr
    for words in ((), ("--fetch",)):
        told = filmstrip("rerun", received.name, "--dry-run", "--json", *words)
        assert json.loads(told.stdout) == {"would_fetch": ["somebody/model", "https://example.com/a.png"]}
    assert not asked


@pytest.mark.parametrize("model", ["somebody/model", "local:0badcafe/gone"])
def test_what_is_named_anew_is_not_looked_for(filmstrip, made, checkpoint, model):
    result = filmstrip(
        "rerun", rewritten(made, model=model).name, "-o", "b.mkv", "--dry-run", "--model", checkpoint, "--json"
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["model"] == str(checkpoint)


def test_an_unfinished_video_fetches_nothing_without_a_word(filmstrip, checkpoint, tmp_path, monkeypatch):
    from filmstrip.jobs import videos
    from filmstrip.resume.unfinished import read_unfinished

    with monkeypatch.context() as patched:
        patched.setattr(videos, "sheet_path", lambda *_: 1 / 0)
        filmstrip("generate", "a cat", "--model", checkpoint, *SMALL, "-o", "a.mkv", "--contact-sheet")
    kept = read_unfinished("a.latents.safetensors")
    kept.about["record"]["model"] = "somebody/model"
    kept.save(tmp_path / "received.latents.safetensors")
    result = filmstrip("decode", "received.latents.safetensors")
    assert result.exit_code == 2 and "(somebody/model)" in result.stderr and "--fetch gets that" in result.stderr


def test_a_word_lets_more_be_fetched_than_the_cache_has(filmstrip, made, checkpoint, monkeypatch):
    """Its JSON files alone may be there, since it was inspected."""
    from filmstrip.checkpoints import hub

    calls = []

    def fetch(self, *_):
        calls.append(self.is_offline)
        return checkpoint

    monkeypatch.setattr(hub, "_hub_is_offline", lambda: False)
    monkeypatch.setattr(hub.Repository, "fetch", fetch)
    received = rewritten(made, model="somebody/model")
    assert filmstrip("rerun", received.name, "--fetch", "-o", "again.mkv").exit_code == 0
    assert not calls[-1]


def test_a_model_of_the_hub_that_is_here_is_not_asked_for(filmstrip, made, checkpoint, monkeypatch):
    """It comes from the cache, and the hub is not told of it."""
    from filmstrip.checkpoints import hub

    calls = []

    def fetch(self, *_):
        calls.append(self.is_offline)
        return checkpoint

    monkeypatch.setattr(hub, "_hub_is_offline", lambda: False)
    monkeypatch.setattr(hub.Repository, "fetch", fetch)
    result = filmstrip("rerun", rewritten(made, model="somebody/model").name, "-o", "again.mkv")
    assert result.exit_code == 0, result.stderr
    assert calls and all(calls)


def test_rerun_takes_what_generate_takes(filmstrip, made, tmp_path, checkpoint):
    words = ("--seed", "6", "--num-frames", "5", "--fps", "6", "--steps", "1", "--negative-prompt", "a dog")
    result = filmstrip("rerun", made.name, "-o", "other.mkv", *words, "--prompt", "a horse", "--size", "32x32")
    assert result.exit_code == 0, result.stderr
    frames, fps = read_video("other.mkv")
    assert (frames.shape, fps) == ((5, 32, 32, 3), 6)
    before, after = read_metadata(made), read_metadata("other.mkv")
    assert (after["seed"], after["prompt"], after["negative_prompt"]) == (6, "a horse", "a dog")
    assert (after["settings"]["num_inference_steps"], after["settings"]["frame_rate"]) == (1, 6)
    assert after["inputs"] == before["inputs"] and after["model"] == before["model"]
    result = filmstrip("rerun", made.name, "-o", "long.mkv", "--seconds", "0.5")
    assert len(read_video("long.mkv")[0]) == 4, result.stderr
    both = filmstrip("rerun", made.name, "--seconds", "1", "--num-frames", "3")
    assert both.exit_code == 2 and "say the same thing" in both.stderr
    shutil.copytree(checkpoint, tmp_path / "model")
    assert filmstrip("rerun", made.name, "--model", "model", "--dry-run").exit_code == 0


@pytest.mark.parametrize("option", ["--image", "--video", "--control-video"])
def test_a_second_picture_or_clip_is_not_dropped(filmstrip, checkpoint, option):
    result = filmstrip("generate", "a cat", "--model", checkpoint, option, "a.png", option, "b.png")
    assert result.exit_code == 2 and f"{option} was given 2 times; give it once" in result.stderr


def test_a_shared_name_is_the_same_twice_and_another_for_another_file(tmp_path, register):
    one, other = tmp_path / "a" / "clip.mp4", tmp_path / "b" / "clip.mp4"
    for path in (one, other):
        path.parent.mkdir()
        path.touch()
    names = [shared_name(path) for path in (one, other, one)]
    assert names[0] == names[2] != names[1] and all(name.endswith("/clip.mp4") for name in names)
    assert [place_of(name) for name in names] == [str(one), str(other), str(one)]
    register.write_text("[" * 100000)
    assert place_of(names[0]) == str(Path("clip.mp4")) or place_of(names[0]).endswith("clip.mp4")
    register.unlink()
    register.parent.rmdir()
    register.parent.touch()  # a file, where the folder would be
    assert shared_name(one).endswith("/clip.mp4")


@pytest.mark.parametrize("name", ["local:0badcafe/../x", "local:x/y", "local:0badcafe/", "org/name", "shapes", ""])
def test_other_names_are_themselves(name):
    assert place_of(name) == name


def test_hidden_names_are_short_enough(tmp_path):
    partial_path(tmp_path / ("é" * 120 + ".mp4")).touch()
