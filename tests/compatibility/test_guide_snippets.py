"""Code of the guide runs with only its import lines changed, on tiny checkpoints in the hub's cache layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor

import filmstrip
from tests import tiny
from tests.compatibility.snippets import run

LTX_MINDSPORE = """
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
COGVIDEOX = """
import torch
from filmstrip import CogVideoXImageToVideoPipeline
from filmstrip.utils import export_to_video, load_image

prompt = "A vast, shimmering ocean flows gracefully under a twilight sky."
image = load_image(image="cogvideox_rocket.png")
pipe = CogVideoXImageToVideoPipeline.from_pretrained(
    "THUDM/CogVideoX-5b-I2V",
    torch_dtype=torch.bfloat16
)

pipe.vae.enable_tiling()
pipe.vae.enable_slicing()

video = pipe(
    prompt=prompt,
    image=image,
    num_videos_per_prompt=1,
    num_inference_steps=50,
    num_frames=49,
    guidance_scale=6,
    generator=torch.Generator(device="cuda").manual_seed(42),
).frames[0]

export_to_video(video, "output.mp4", fps=8)
"""
COGVIDEOX_MINDSPORE = """
import mindspore as ms
import numpy as np
from filmstrip import CogVideoXImageToVideoPipeline
from filmstrip.utils import export_to_video, load_image
prompt = "A vast, shimmering ocean flows gracefully under a twilight sky."
image = load_image(image="https://huggingface.co/datasets/huggingface/documentation-images/cogvideox_rocket.png")
pipe = CogVideoXImageToVideoPipeline.from_pretrained(
"THUDM/CogVideoX-5b-I2V",
mindspore_dtype=ms.bfloat16
)
video = pipe(
prompt=prompt,
image=image,
num_videos_per_prompt=1,
num_inference_steps=50,
num_frames=49,
guidance_scale=6,
generator=np.random.Generator(np.random.PCG64(seed=42)),
)[0][0]
export_to_video(video, "output.mp4", fps=8)
"""
SVD = """
import torch
from filmstrip import StableVideoDiffusionPipeline
from filmstrip.utils import load_image, export_to_video

pipeline = StableVideoDiffusionPipeline.from_pretrained(
    "stabilityai/stable-video-diffusion-img2vid-xt", torch_dtype=torch.float16, variant="fp16"
)
pipeline.enable_model_cpu_offload()

image = load_image("https://huggingface.co/datasets/huggingface/documentation-images/svd/rocket.png")
image = image.resize((1024, 576))

generator = torch.manual_seed(42)
frames = pipeline(image, decode_chunk_size=8, generator=generator).frames[0]
export_to_video(frames, "output.mp4", fps=7)
"""
SVD_MINDSPORE = """
import mindspore as ms
from filmstrip import StableVideoDiffusionPipeline
from filmstrip.utils import load_image, export_to_video
import numpy as np
pipeline = StableVideoDiffusionPipeline.from_pretrained(
"stabilityai/stable-video-diffusion-img2vid-xt", mindspore_dtype=ms.float16, variant="fp16"
)
image = load_image("https://huggingface.co/datasets/huggingface/documentation-images/svd/rocket.png")
image = image.resize((1024, 576))
generator = np.random.Generator(np.random.PCG64(42))
frames = pipeline(image, decode_chunk_size=8, generator=generator, num_frames=5)[0]
export_to_video(frames, "output.mp4", fps=7)
"""


def tiny_ltx() -> Any:
    return filmstrip.LTXPipeline(
        transformer=filmstrip.LTXVideoTransformer3DModel(**tiny.LTX_TRANSFORMER),
        vae=filmstrip.AutoencoderKLLTXVideo(**tiny.LTX_AUTOENCODER),
        scheduler=filmstrip.FlowMatchEulerDiscreteScheduler(),
        text_encoder=tiny.text_encoder(),
        tokenizer=tiny.tokenizer(),
    )


def tiny_cogvideox() -> Any:
    settings = {"in_channels": 8, "use_rotary_positional_embeddings": True, "use_learned_positional_embeddings": True}
    return filmstrip.CogVideoXImageToVideoPipeline(
        transformer=filmstrip.CogVideoXTransformer3DModel(**{**tiny.COGVIDEOX_TRANSFORMER, **settings}),
        vae=filmstrip.AutoencoderKLCogVideoX(**tiny.COGVIDEOX_AUTOENCODER),
        scheduler=filmstrip.CogVideoXDDIMScheduler(),
        text_encoder=tiny.text_encoder(),
        tokenizer=tiny.tokenizer(),
    )


def tiny_svd() -> Any:
    return filmstrip.StableVideoDiffusionPipeline(
        vae=filmstrip.AutoencoderKLTemporalDecoder(**tiny.STABLE_VIDEO_DIFFUSION_AUTOENCODER),
        image_encoder=tiny.clip_vision_encoder(),
        unet=filmstrip.UNetSpatioTemporalConditionModel(**tiny.STABLE_VIDEO_DIFFUSION_UNET),
        scheduler=filmstrip.EulerDiscreteScheduler(prediction_type="v_prediction", timestep_type="continuous"),
        feature_extractor=CLIPImageProcessor(),
    )


def check_video(num_frames: int, size: tuple[int, int]) -> None:
    frames = filmstrip.load_video("output.mp4")
    assert len(frames) == num_frames
    assert frames[0].size == size
    assert Path("output.mp4").stat().st_size > 0


def test_ltx_in_the_words_of_the_mindspore_port(hub):
    torch.manual_seed(0)
    hub("Lightricks/LTX-Video", tiny_ltx())
    run(LTX_MINDSPORE)
    check_video(17, (96, 64))


@pytest.mark.parametrize("snippet", [COGVIDEOX, COGVIDEOX_MINDSPORE], ids=["Diffusers", "MindSpore"])
def test_cogvideox_from_a_picture(hub, monkeypatch, snippet):
    torch.manual_seed(0)
    hub("THUDM/CogVideoX-5b-I2V", tiny_cogvideox())
    rocket = Image.new("RGB", (72, 48), "orange")
    rocket.save("cogvideox_rocket.png")
    monkeypatch.setattr("filmstrip.media.download.download", lambda address, path, what: rocket.save(path, "png"))
    run(snippet)
    check_video(17, (48, 32))


@pytest.mark.parametrize(("snippet", "num_frames"), [(SVD, 4), (SVD_MINDSPORE, 5)], ids=["Diffusers", "MindSpore"])
def test_svd_from_a_picture(hub, monkeypatch, snippet, num_frames):
    torch.manual_seed(0)
    hub("stabilityai/stable-video-diffusion-img2vid-xt", tiny_svd(), variant="fp16")
    rocket = Image.new("RGB", (72, 48), "orange")
    monkeypatch.setattr("filmstrip.media.download.download", lambda address, path, what: rocket.save(path, "png"))
    run(snippet)
    check_video(num_frames, (22, 12))
