"""Code of the guide for I2VGen-XL runs with only its import lines changed, on a tiny checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import filmstrip
from tests.compatibility.snippets import run
from tests.tiny_i2vgen_xl import parts, picture

ANIMATED = """
import torch
from filmstrip import I2VGenXLPipeline
from filmstrip.utils import export_to_gif, load_image

pipeline = I2VGenXLPipeline.from_pretrained("ali-vilab/i2vgen-xl", torch_dtype=torch.float16, variant="fp16")
pipeline.enable_model_cpu_offload(device="cpu")

image = load_image("img_0009.png").convert("RGB")

prompt = "Papers were floating in the air on a table in the library"
negative_prompt = "Distorted, discontinuous, Ugly, blurry, low resolution, motionless, static"
generator = torch.manual_seed(8888)

frames = pipeline(
    prompt=prompt,
    image=image,
    num_inference_steps=3,
    negative_prompt=negative_prompt,
    guidance_scale=9.0,
    generator=generator
).frames[0]
export_to_gif(frames, "i2v.gif")
"""


@pytest.fixture
def checkpoint(hub):
    """I2VGen-XL in two types, of which the code asks for one; it makes small videos."""
    pipeline = filmstrip.I2VGenXLPipeline(**parts())
    pipeline.defaults |= {"height": 16, "width": 24}
    pipeline.to(torch.bfloat16)
    hub("ali-vilab/i2vgen-xl", pipeline, variant="fp16")


def test_a_picture_becomes_an_animation(checkpoint):
    picture(0, 48, 32).save("img_0009.png")
    run(ANIMATED)
    assert Path("i2v.gif").stat().st_size > 0
