"""Code of the guide runs with only its import lines changed, on tiny checkpoints in the hub's cache layout."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

import filmstrip
from tests import tiny

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
CONTROLLED = """
from huggingface_hub import hf_hub_download
from PIL import Image
import imageio

filename = "__assets__/poses_skeleton_gifs/dance1_corr.mp4"
repo_id = "PAIR/Text2Video-Zero"
video_path = hf_hub_download(repo_type="space", repo_id=repo_id, filename=filename)

reader = imageio.get_reader(video_path, "ffmpeg")
frame_count = 8
pose_images = [Image.fromarray(reader.get_data(i)) for i in range(frame_count)]

import torch
from filmstrip import StableDiffusionControlNetPipeline, ControlNetModel
from filmstrip.pipelines.text_to_video_synthesis.pipeline_text_to_video_zero import CrossFrameAttnProcessor

model_id = "stable-diffusion-v1-5/stable-diffusion-v1-5"
controlnet = ControlNetModel.from_pretrained("lllyasviel/sd-controlnet-openpose", torch_dtype=torch.float16)
pipeline = StableDiffusionControlNetPipeline.from_pretrained(
    model_id, controlnet=controlnet, torch_dtype=torch.float16
).to("cuda")

pipeline.unet.set_attn_processor(CrossFrameAttnProcessor(batch_size=2))
pipeline.controlnet.set_attn_processor(CrossFrameAttnProcessor(batch_size=2))

latents = torch.randn((1, 4, 64, 64), device="cuda", dtype=torch.float16).repeat(len(pose_images), 1, 1, 1)

prompt = "Darth Vader dancing in a desert"
result = pipeline(prompt=[prompt] * len(pose_images), image=pose_images, latents=latents).images
imageio.mimsave("video.mp4", result, fps=4)
"""
# The numbers of the snippets would take minutes even here; the tiny models are asked for less of the same.
SMALLER = {
    "width=704": "width=96",
    "height=480": "height=64",
    "num_frames=161": "num_frames=17",
    "num_frames=49": "num_frames=17",
    "num_inference_steps=50": "num_inference_steps=2",
    'Generator(device="cuda")': "Generator()",  # torch itself refuses it where there is no GPU
    '.to("cuda")': "",
    'device="cuda", ': "",
    "torch.float16": "torch.bfloat16",
    "(1, 4, 64, 64)": "(1, 4, 8, 8)",
}


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


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Save a pipeline in a cache folder, as a download of that repository would have left it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setitem(sys.modules, "mindspore", SimpleNamespace(bfloat16="BFloat16"))
    monkeypatch.chdir(tmp_path)
    revision = "0" * 40

    def save(name: str, pipeline: Any) -> None:
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(revision)
        pipeline.save_pretrained(repository / "snapshots" / revision)

    return save


def tiny_stable_diffusion() -> Any:
    return filmstrip.StableDiffusionPipeline(
        vae=filmstrip.AutoencoderKL(**tiny.STABLE_DIFFUSION_AUTOENCODER),
        text_encoder=tiny.clip_text_encoder(length=64),
        tokenizer=tiny.clip_tokenizer(64),
        unet=filmstrip.UNet2DConditionModel(**tiny.STABLE_DIFFUSION_UNET),
        scheduler=filmstrip.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
    )


def tiny_controlnet() -> Any:
    left_out = ("sample_size", "up_block_types")
    settings = {name: value for name, value in tiny.STABLE_DIFFUSION_UNET.items() if name not in left_out}
    return filmstrip.ControlNetModel(**settings, conditioning_embedding_out_channels=(4, 8))


def run(snippet: str) -> None:
    for long, short in SMALLER.items():
        snippet = snippet.replace(long, short)
    exec(compile(snippet, "snippet", "exec"), {})


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
    monkeypatch.setattr("filmstrip.media.reader._download", lambda address, path, what: rocket.save(path))
    run(snippet)
    check_video(17, (48, 32))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the guide leaves its reader open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_control_of_a_video_by_the_poses_of_another(hub, monkeypatch):
    torch.manual_seed(0)
    hub("stable-diffusion-v1-5/stable-diffusion-v1-5", tiny_stable_diffusion())
    hub("lllyasviel/sd-controlnet-openpose", tiny_controlnet())
    poses = [Image.new("RGB", (16, 16), (10 * index, 0, 0)) for index in range(8)]
    filmstrip.export_to_video(poses, "poses.mp4", fps=8)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda **_: "poses.mp4")
    run(CONTROLLED)
    frames = filmstrip.load_video("video.mp4")
    assert len(frames) == 8
    assert frames[0].size == (16, 16)
