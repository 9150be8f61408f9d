"""The command, run inside the test's process, and the folder of a tiny checkpoint for it."""

import shutil

import pytest
from typer.testing import CliRunner

from filmstrip.cli.app import app
from tests.cli.tiny_checkpoint import tiny_pipeline


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The folder of the tiny checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    pipeline = tiny_pipeline()
    pipeline.defaults |= {"height": 64, "width": 64, "num_frames": 9, "frame_rate": 8, "num_inference_steps": 2}
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def outline(checkpoint, tmp_path_factory):
    """The same checkpoint without its weight files."""
    folder = tmp_path_factory.mktemp("outlines") / "tiny"
    return shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))


@pytest.fixture
def filmstrip(tmp_path, monkeypatch):
    """Run the command in an empty folder: the words of its command line, to click's result."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])
