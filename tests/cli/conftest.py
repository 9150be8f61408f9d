"""A tiny checkpoint of LTX-Video with random weights, and the command run inside the test's process."""

import pytest
import torch
from typer.testing import CliRunner

from filmstrip import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel
from filmstrip.cli.app import app
from tests import tiny

# A video of 64x64 and 9 frames, in two steps.
SMALL = ("--size", "64x64", "--num-frames", "9", "--steps", "2", "--device", "cpu")


def tiny_pipeline():
    torch.manual_seed(0)
    return LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLLTXVideo(**tiny.LTX_AUTOENCODER),
        text_encoder=tiny.text_encoder(),
        tokenizer=tiny.tokenizer(),
        transformer=LTXVideoTransformer3DModel(**tiny.LTX_TRANSFORMER),
    )


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
    import shutil

    folder = tmp_path_factory.mktemp("outlines") / "tiny"
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


@pytest.fixture
def filmstrip(tmp_path, monkeypatch):
    """Run the command in an empty folder: the words of its command line, to click's result."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])
