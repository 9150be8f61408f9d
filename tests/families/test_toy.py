"""A folder on the path is a family: nothing else has to know it."""

import importlib
import json
import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import filmstrip
from filmstrip import registry
from filmstrip.cli.app import app
from filmstrip.media import read_video
from tests.families.toy_cases import CASE
from tests.guards.source import ROOT

# What the contract suite needs to know of a family elsewhere: where its package is, and where its tests are.
CONTRACT = """
import sys
import filmstrip.models
filmstrip.models.__path__.append(sys.argv[1])
import pytest
import tests.models
sys.exit(pytest.main(sys.argv[2:]))
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def checkpoint(toy, tmp_path):
    """The folder of a checkpoint with random weights."""
    CASE.make().save_pretrained(tmp_path / "toy")
    return tmp_path / "toy"


def test_a_family_elsewhere_is_there_as_long_as_its_folder_is_on_the_path(folder, monkeypatch):
    before = registry.families()
    assert "ToyPipeline" not in filmstrip.__all__
    with monkeypatch.context() as patch:
        patch.setattr(filmstrip.models, "__path__", [*filmstrip.models.__path__, str(folder / "models")])
        assert [one.name for one in registry.families()] == [*(one.name for one in before), "toy"]
        assert "ToyPipeline" in filmstrip.__all__
    assert registry.families() == before
    assert "filmstrip.models.toy.pipeline" not in sys.modules


def test_its_public_names_are_those_of_the_package(toy):
    for name in ("ToyPipeline", "ToyTransformer"):
        module = importlib.import_module(registry.PUBLIC[name])
        assert getattr(filmstrip, name) is getattr(module, name) is getattr(toy, name)
    with pytest.raises(AttributeError, match="no attribute 'ToyScheduler'"):
        _ = toy.ToyScheduler


def test_the_command_lists_it(command, toy):
    said = command("models").stdout
    assert "Toy" in said and "ToyPipeline" in said
    (row,) = (row for row in json.loads(command("models", "--json").stdout)["families"] if row["name"] == "toy")
    assert row["pipelines"] == {"text-to-video": "ToyPipeline"}


def test_the_command_describes_its_checkpoint(command, checkpoint):
    content = json.loads(command("inspect", checkpoint, "--json").stdout)
    assert content["family"] == "Toy"
    assert content["tasks"] == {"text-to-video": "ToyPipeline"}
    assert content["rules"]["size_multiple"] == 2
    assert {row["name"] for row in content["components"]} == set(filmstrip.ToyPipeline.component_names())


def test_the_command_makes_a_video_with_it(command, checkpoint, tmp_path):
    words = ("--model", checkpoint, "--size", "48x32", "--num-frames", "3", "--steps", "2", "--device", "cpu")
    result = command("generate", "a cat", *words, "--seed", "1", "-o", "a.mkv")
    assert result.exit_code == 0, result.stderr
    frames, fps = read_video(tmp_path / "a.mkv")
    assert frames.shape == (3, 32, 48, 3) and fps == 8
    assert frames.std() > 1
    assert command("rerun", "a.mkv", "-o", "b.mkv").exit_code == 0
    assert (read_video(tmp_path / "b.mkv")[0] == frames).all()


def test_it_passes_the_contract_suite(folder):
    parts = [str(ROOT / "src"), str(ROOT), str(folder)]
    arguments = ["-n", "0", "-p", "no:cacheprovider", "tests/contract", "-k", "Toy or registration"]
    done = subprocess.run(
        [sys.executable, "-c", CONTRACT, str(folder / "models"), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(parts)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 100
