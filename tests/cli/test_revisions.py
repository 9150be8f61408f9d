"""Revisions of the hub's repositories: chosen, held for the whole of a run, written down, and used again."""

import json
import shutil

import huggingface_hub
import numpy
import pytest
import torch

import filmstrip as library
from filmstrip import read_metadata
from filmstrip.resume.unfinished import read_unfinished
from tests.cli.tiny_checkpoint import SMALL, tiny_pipeline

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub(checkpoint, tmp_path_factory, monkeypatch):
    """The cache of a hub that can't be reached, with two revisions of org/name: `main` is the new one."""
    cache = tmp_path_factory.mktemp("hub")
    repository = cache / "models--org--name"
    shutil.copytree(checkpoint, repository / "snapshots" / OLD)
    other = tiny_pipeline()
    with torch.no_grad():
        for parameter in other.transformer.parameters():
            parameter.mul_(1.5)
    shutil.copytree(checkpoint, repository / "snapshots" / NEW)
    other.transformer.save_pretrained(repository / "snapshots" / NEW / "transformer")
    (repository / "refs").mkdir()
    point(cache, main=NEW, v1=OLD)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


def point(cache, **references):
    for name, commit in references.items():
        (cache / "models--org--name" / "refs" / name).write_text(commit)


def made(filmstrip, *words):
    result = filmstrip(*words)
    assert result.exit_code == 0, result.stderr
    return result


def test_a_revision_is_chosen_and_written_down_and_a_rerun_takes_it_whatever_has_come_since(filmstrip, hub):
    call = ("generate", "a cat", "--model", "org/name", *SMALL, "--seed", "5")
    made(filmstrip, *call, "-o", "new.mkv")
    made(filmstrip, *call, "-o", "old.mkv", "--revision", "v1")
    assert read_metadata("new.mkv")["model"] == "org/name"
    assert read_metadata("new.mkv")["revisions"] == {"org/name": NEW}
    assert read_metadata("old.mkv")["revisions"] == {"org/name": OLD}
    frames = read("new.mkv")
    assert not numpy.array_equal(frames, read("old.mkv"))
    point(hub, main=OLD)
    made(filmstrip, "rerun", "new.mkv", "-o", "again.mkv")
    assert read_metadata("again.mkv") == read_metadata("new.mkv")
    assert numpy.array_equal(read("again.mkv"), frames)
    made(filmstrip, "rerun", "new.mkv", "-o", "other.mkv", "--revision", "v1")
    assert read_metadata("other.mkv")["revisions"] == {"org/name": OLD}
    assert f"{NEW} of org/name" in " ".join(made(filmstrip, "rerun", "new.mkv", "--dry-run").stdout.split())
    assert NEW in made(filmstrip, "show", "new.mkv").stdout


def read(name):
    return numpy.stack([numpy.asarray(frame) for frame in library.load_video(name)])


def test_a_revision_that_is_not_here_is_asked_for_only_with_a_word(filmstrip, hub):
    made(filmstrip, "generate", "a cat", "--model", "org/name", *SMALL, "-o", "a.mkv")
    shutil.rmtree(hub / "models--org--name" / "snapshots" / NEW)
    result = filmstrip("rerun", "a.mkv")
    assert result.exit_code == 2 and "org/name" in result.stderr and "--fetch gets that" in result.stderr


def test_inspect_takes_a_revision_and_says_it(filmstrip, hub):
    told = json.loads(made(filmstrip, "inspect", "org/name", "--revision", "v1", "--json").stdout)
    assert told["revision"] == OLD
    assert OLD in made(filmstrip, "inspect", "org/name", "--revision", "v1", "--memory", "1GB").stdout
    assert json.loads(made(filmstrip, "inspect", "org/name", "--json").stdout)["revision"] == NEW


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--model", "org/name", "--revision", "v9"), "org/name"),
        (("--revision", "v1"), "so there is no revision"),
        (("--component", "vae=org/name@v1"), "not the checkpoint of one network"),
    ],
)
def test_revisions_that_make_no_sense_are_refused_in_a_sentence(filmstrip, hub, words, sentence):
    result = filmstrip("generate", "a blue square", *words, "--dry-run")
    assert result.exit_code == 2 and sentence in result.stderr and "Traceback" not in result.stderr


def test_a_components_revision_is_its_own(filmstrip, hub, checkpoint):
    folder = hub / "models--org--vae" / "snapshots" / OLD
    shutil.copytree(checkpoint / "vae", folder)
    (hub / "models--org--vae" / "refs").mkdir()
    (hub / "models--org--vae" / "refs" / "best").write_text(OLD)
    words = ("--model", checkpoint, *SMALL, "--component", "vae=org/vae@best", "-o", "a.mkv")
    made(filmstrip, "generate", "a cat", *words)
    assert read_metadata("a.mkv")["components"] == {"vae": "org/vae"}
    assert read_metadata("a.mkv")["revisions"] == {"org/vae": OLD}
    made(filmstrip, "rerun", "a.mkv", "-o", "b.mkv")
    assert read_metadata("b.mkv") == read_metadata("a.mkv")


def test_what_python_keeps_of_a_run_names_the_revision(filmstrip, hub, tmp_path):
    pipeline = library.LTXPipeline.from_pretrained("org/name", revision="v1")
    assert pipeline.revision == OLD
    pipeline.set_progress_bar_config(disable=True)
    pipeline.keep_unfinished(tmp_path, every=1)

    def stop(pipeline, step, *_):
        if step == 1:  # what was done before is kept by now
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        pipeline("a cat", callback_on_step_end=stop)
    [kept] = tmp_path.glob("*.latents.safetensors")
    assert read_unfinished(kept).revision == OLD
    made(filmstrip, "decode", kept, "-o", "a.mkv", "--device", "cpu")


def test_a_later_pass_is_of_the_commit_that_was_checked(filmstrip, hub, checkpoint, monkeypatch):
    from filmstrip.jobs import passes

    first = passes.make_pass

    def make_pass(*given, **named):
        made = first(*given, **named)
        point(hub, main=OLD)  # as somebody's push does meanwhile
        return made

    monkeypatch.setattr(passes, "make_pass", make_pass)
    made(filmstrip, "generate", "a cat", "--model", checkpoint, *SMALL, "--then", "org/name", "-o", "a.mkv")
    assert read_metadata("a.mkv")["revisions"] == {"org/name": NEW}
