"""Look at the video while it is made: every fifth step's latents are decoded to a small picture.

A callback works as in Diffusers: it is given tensors by name, and what it returns replaces them.
"""

import numpy as np
import torch
from PIL import Image

from filmstrip import LTXPipeline, export_to_video

pipe = LTXPipeline.from_pretrained("shapes")
call = {"prompt": "a green square bouncing on a black background"}
size = pipe.request(**call).size


def save_preview(pipeline, step, timestep, tensors):
    """Write the first frame as it is after this step, still noisy."""
    if step % 5 == 4:
        latents = tensors["latents"].unflatten(1, size.latent_size)[:, :1]  # (1, 1, rows, columns, channels)
        latents = latents * pipe.vae.latents_std + pipe.vae.latents_mean
        latents = latents.movedim(-1, 1).to(pipe.vae.dtype)  # (1, channels, 1, rows, columns)
        frame = pipe.vae.decode(latents).sample[0, :, 0]  # (3, height, width) in [-1, 1]
        pixels = ((frame.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        Image.fromarray(np.asarray(pixels.movedim(0, -1))).save(f"preview-{step + 1:02}.png")
    return {}


frames = pipe(**call, generator=torch.Generator().manual_seed(7), callback_on_step_end=save_preview).frames[0]
export_to_video(frames, "square.mp4", fps=8)
