"""Code of the guide runs with only its import lines changed, on a tiny checkpoint in the hub's cache layout."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import filmstrip
from tests import tiny

MINDSPORE_PORT = """
import mindspore as ms
from filmstrip import LTXPipeline
from filmstrip.utils import export_to_video
pipe = LTXPipeline.from_pretrained("Lightricks/LTX-Video", mindspore_dtype=ms.bfloat16)
prompt = "A man walks towards a window, looks out, and then turns around."
video = pipe(
prompt=prompt,
width=704,
height=480,
num_frames=161,
num_inference_steps=50,
)[0][0]
export_to_video(video, "output.mp4", fps=24)
"""
# The sizes and steps of the snippet would take minutes even here; the tiny model is asked for less of the same.
SMALLER = {"width=704": "width=96", "height=480": "height=64", "num_frames=161": "num_frames=17", "=50": "=2"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache folder that holds a tiny LTX-Video, as a download would have left it."""
    revision = "0" * 40
    repository = tmp_path / "hub" / "models--Lightricks--LTX-Video"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    torch.manual_seed(0)
    pipeline = filmstrip.LTXPipeline(
        transformer=filmstrip.LTXVideoTransformer3DModel(**tiny.LTX_TRANSFORMER),
        vae=filmstrip.AutoencoderKLLTXVideo(**tiny.LTX_AUTOENCODER),
        scheduler=filmstrip.FlowMatchEulerDiscreteScheduler(),
        text_encoder=tiny.text_encoder(),
        tokenizer=tiny.tokenizer(),
    )
    pipeline.save_pretrained(repository / "snapshots" / revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_snippet_of_the_mindspore_port_runs(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "mindspore", SimpleNamespace(bfloat16="BFloat16"))
    snippet = MINDSPORE_PORT
    for long, short in SMALLER.items():
        snippet = snippet.replace(long, short)
    exec(compile(snippet, "snippet", "exec"), {})
    frames = filmstrip.load_video("output.mp4")
    assert len(frames) == 17
    assert frames[0].size == (96, 64)
    assert Path("output.mp4").stat().st_size > 0
