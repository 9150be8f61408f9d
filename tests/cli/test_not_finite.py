"""A component whose values are not finite: an error that names it, and no video."""

import shutil

import pytest
import torch

from filmstrip import LTXPipeline
from tests.cli.tiny_checkpoint import SMALL


@pytest.mark.parametrize("component", ["text_encoder", "transformer", "vae"])
def test_it_is_named_and_no_file_is_written(filmstrip, checkpoint, tmp_path, tmp_path_factory, component):
    pipeline = LTXPipeline.from_pretrained(checkpoint)
    with torch.no_grad():
        for parameter in pipeline.components[component].parameters():
            parameter.fill_(float("nan"))
    broken = shutil.copytree(checkpoint, tmp_path_factory.mktemp("broken") / "tiny")
    pipeline.save_pretrained(broken)
    result = filmstrip("generate", "a cat", "--model", broken, *SMALL, "-o", "out.mp4")
    assert result.exit_code == 1
    assert f"Error: The {component} gave values that are not finite" in result.stderr
    kept = {"out.latents.safetensors"} if component == "vae" else set()  # the sampling is not lost
    assert {one.name for one in tmp_path.iterdir()} == kept
