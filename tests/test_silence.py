"""What a plain program gets on stderr: nothing, since nothing is wrong; and the command, only what it says itself."""

import json
import os
import subprocess
import sys

import pytest

from tests.cli.tiny_checkpoint import tiny_pipeline

PROGRAM = """
from filmstrip import LTXPipeline

pipe = LTXPipeline.from_pretrained("tiny")
pipe.set_progress_bar_config(disable=True)
pipe(prompt="a cat", height=64, width=64, num_frames=9, num_inference_steps=1)
"""
COMMAND = """
import sys
from filmstrip.cli import main

sys.exit(main(["generate", "a cat", "-m", "tiny", "--size", "64x64", "--num-frames", "9", "--steps", "1", "-q"]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a checkpoint whose text encoder says its type as published ones do."""
    folder = tmp_path_factory.mktemp("silence")
    tiny_pipeline().save_pretrained(folder / "tiny")
    config = folder / "tiny" / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"torch_dtype": "float32"}))
    return folder


@pytest.mark.parametrize("program", [PROGRAM, COMMAND], ids=["program", "command"])
def test_nothing_is_said_on_stderr(folder, program):
    unset = ("PYTHONWARNINGS", "TRANSFORMERS_VERBOSITY", "TORCH_LOGS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
