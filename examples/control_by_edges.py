"""A video that follows the edges of a clip: python control_by_edges.py CLIP [MODEL CONTROLNET]

It needs a Stable Diffusion, a ControlNet for edges (gigabytes), and OpenCV: pip install 'filmstrip[edges]'. Only an
accelerator makes it quick.
"""

import sys

import torch

from filmstrip import ControlNetModel, TextToVideoZeroControlNetPipeline, canny_edges, export_to_video, load_video

clip, *models = sys.argv[1:]
model, control = models or ("stable-diffusion-v1-5/stable-diffusion-v1-5", "lllyasviel/sd-controlnet-canny")

controlnet = ControlNetModel.from_pretrained(control)
pipe = TextToVideoZeroControlNetPipeline.from_pretrained(model, controlnet=controlnet)
pipe.enable_model_cpu_offload()  # does nothing without an accelerator

# Pictures of the size of the video give the clearest edges.
side = pipe.unet.config.sample_size * pipe.vae.spatial_compression_ratio
frames = [frame.resize((side, side)) for frame in load_video(clip, num_frames=8)]
edges = canny_edges(frames, low_threshold=100, high_threshold=200)
video = pipe(
    "the street in an ink drawing",
    control_video=edges,
    num_inference_steps=20,
    generator=torch.Generator().manual_seed(7),
).frames[0]
export_to_video(edges, "edges.mp4", fps=8)
export_to_video(video, "drawing.mp4", fps=8)
