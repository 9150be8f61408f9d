"""Code written for Text2Video-Zero in Diffusers runs with only its import lines changed, on tiny checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import filmstrip
from tests.compatibility.snippets import run
from tests.media.clips import moving_square
from tests.tiny_stable_diffusion import controlnet, parts, xl_parts

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
TEXT = """
import imageio
import torch
from filmstrip import TextToVideoZeroPipeline

pipe = TextToVideoZeroPipeline.from_pretrained(
    "stable-diffusion-v1-5/stable-diffusion-v1-5", torch_dtype=torch.float16
).to("cuda")
frames = pipe(prompt="a panda plays the drums").images
imageio.mimsave("video.mp4", [(frame * 255).astype("uint8") for frame in frames], fps=4)
"""
CHUNKS = """
import imageio
import numpy as np
import torch
from filmstrip import TextToVideoZeroPipeline

pipe = TextToVideoZeroPipeline.from_pretrained(
    "stable-diffusion-v1-5/stable-diffusion-v1-5", torch_dtype=torch.float16
).to("cuda")
num_frames, chunk_size = 12, 5
starts = np.arange(0, num_frames, chunk_size - 1)
generator = torch.Generator(device="cuda")
chunks = []
for i in range(len(starts)):
    end = num_frames if i == len(starts) - 1 else starts[i + 1]
    frame_ids = [0] + list(range(starts[i], end))  # all attend to the first frame
    generator.manual_seed(0)  # and begin as it does
    output = pipe(prompt="a panda", video_length=len(frame_ids), generator=generator, frame_ids=frame_ids)
    chunks.append(output.images[1:])
frames = np.concatenate(chunks)
imageio.mimsave("video.mp4", [(frame * 255).astype("uint8") for frame in frames], fps=4)
"""
LARGE = """
import imageio
import torch
from filmstrip import TextToVideoZeroSDXLPipeline

pipe = TextToVideoZeroSDXLPipeline.from_pretrained(
    "stabilityai/stable-diffusion-xl-base-1.0", torch_dtype=torch.float16, variant="fp16", use_safetensors=True
).to("cuda")
frames = pipe(prompt="a panda plays the drums").images
imageio.mimsave("video.mp4", [(frame * 255).astype("uint8") for frame in frames], fps=4)
"""
INSTRUCTION = """
from huggingface_hub import hf_hub_download
from PIL import Image
import imageio
import torch
from filmstrip import StableDiffusionInstructPix2PixPipeline
from filmstrip.pipelines.text_to_video_synthesis.pipeline_text_to_video_zero import CrossFrameAttnProcessor

path = hf_hub_download(repo_type="space", repo_id="PAIR/Text2Video-Zero", filename="camel.mp4")
reader = imageio.get_reader(path, "ffmpeg")
video = [Image.fromarray(reader.get_data(i)) for i in range(8)]

pipe = StableDiffusionInstructPix2PixPipeline.from_pretrained(
    "timbrooks/instruct-pix2pix", torch_dtype=torch.float16
).to("cuda")
pipe.unet.set_attn_processor(CrossFrameAttnProcessor(batch_size=3))
frames = pipe(prompt=["as an etching"] * len(video), image=video).images
imageio.mimsave("video.mp4", frames, fps=4)
"""
# Edges, and a model that was trained for a style: other names in the program of poses.
STYLED = (
    CONTROLLED.replace("sd-controlnet-openpose", "sd-controlnet-canny")
    .replace("stable-diffusion-v1-5/stable-diffusion-v1-5", "PAIR/text2video-zero-controlnet-canny-avatar")
    .replace("pose_images", "canny_edges")
)
PROGRAMS = {
    "poses": (CONTROLLED, 8),
    "edges and a style": (STYLED, 8),
    "text": (TEXT, 8),
    "a long video in chunks": (CHUNKS, 12),
    "the large model": (LARGE, 8),
    "an instruction": (INSTRUCTION, 8),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the guide leaves its reader open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_makes_its_video(hub, monkeypatch, name):
    program, num_frames = PROGRAMS[name]
    pipeline = filmstrip.StableDiffusionPipeline(**parts())
    hub("stable-diffusion-v1-5/stable-diffusion-v1-5", pipeline)
    hub("PAIR/text2video-zero-controlnet-canny-avatar", pipeline)
    hub("timbrooks/instruct-pix2pix", filmstrip.StableDiffusionInstructPix2PixPipeline(**parts(in_channels=8)))
    hub("lllyasviel/sd-controlnet-openpose", controlnet(0))
    hub("lllyasviel/sd-controlnet-canny", controlnet(1))
    hub("stabilityai/stable-diffusion-xl-base-1.0", filmstrip.TextToVideoZeroSDXLPipeline(**xl_parts()), variant="fp16")
    filmstrip.export_to_video(moving_square(8, 16, 16), "clip.mp4", fps=8)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda **_: "clip.mp4")
    run(program)
    frames = np.stack(filmstrip.load_video("video.mp4"))
    assert frames.shape == (num_frames, 16, 16, 3)
    assert frames.std() > 1


def test_places_of_frames_may_be_an_array():
    pipeline = filmstrip.TextToVideoZeroPipeline(**parts())
    call = {"prompt": "a cat", "video_length": 3, "num_inference_steps": 3, "output_type": "pt"}
    given = [
        pipeline(**call, frame_ids=places, generator=torch.manual_seed(1)).frames
        for places in ([0, 4, 5], np.array([0, 4, 5]))
    ]
    assert torch.equal(*given)
