"""Code of the guide for ModelScope and zeroscope runs with only its import lines changed, on tiny checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import filmstrip
from tests.compatibility.snippets import run
from tests.media.clips import moving_square
from tests.tiny_modelscope import parts

LOADED = """
import torch
from filmstrip import DiffusionPipeline, DPMSolverMultistepScheduler
from filmstrip.utils import export_to_video

pipe = DiffusionPipeline.from_pretrained("damo-vilab/text-to-video-ms-1.7b", torch_dtype=torch.float16, variant="fp16")
"""
PLACED = """
pipe = pipe.to("cpu")
video_frames = pipe("Spiderman is surfing").frames
"""
OFFLOADED = """
pipe.enable_model_cpu_offload(device="cpu")
pipe.enable_vae_slicing()
video_frames = pipe("Darth Vader surfing a wave", num_frames=64).frames
"""
ANOTHER_SOLVER = """
pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
pipe.enable_vae_tiling()
video_frames = pipe("Spiderman is surfing", num_inference_steps=25).frames
pipe.disable_vae_tiling()
"""
WRITTEN = """
video_path = export_to_video(video_frames)
from shutil import copyfile
copyfile(video_path, "output.mp4")
"""
CHANGED = """
import torch
from filmstrip import VideoToVideoSDPipeline
from filmstrip.utils import export_to_video, load_video

pipe = VideoToVideoSDPipeline.from_pretrained("cerspense/zeroscope_v2_XL", torch_dtype=torch.float16)
pipe.unet.enable_forward_chunking(chunk_size=1, dim=1)
pipe.enable_vae_slicing()
video = [frame.resize((48, 32)) for frame in load_video("clip.mkv")]
video_frames = pipe("Darth Vader surfing a wave", video=video, height=32, width=48, strength=0.6).frames[0]
export_to_video(video_frames, "output.mp4")
"""


@pytest.fixture
def checkpoints(hub):
    """ModelScope in two types, of which the code asks for one, and zeroscope XL; both make few steps."""
    pipeline = filmstrip.TextToVideoSDPipeline(**parts())
    pipeline.defaults["num_inference_steps"] = 3
    pipeline.to(torch.bfloat16)
    hub("damo-vilab/text-to-video-ms-1.7b", pipeline, variant="fp16")
    hub("cerspense/zeroscope_v2_XL", pipeline)


@pytest.mark.parametrize(("snippet", "length"), [(PLACED, 16), (OFFLOADED, 64), (ANOTHER_SOLVER, 16)])
def test_a_video_of_a_text(checkpoints, snippet, length):
    run(LOADED + snippet + WRITTEN)
    frames = filmstrip.load_video("output.mp4")
    assert len(frames) == length and frames[0].size == (16, 16)


def test_a_changed_video(checkpoints):
    filmstrip.export_to_video(moving_square(5, 32, 32), "clip.mkv", fps=8)
    run(CHANGED)
    frames = filmstrip.load_video("output.mp4")
    assert len(frames) == 5 and frames[0].size == (48, 32) and Path("output.mp4").stat().st_size > 0
