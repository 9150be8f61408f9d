"""A text becomes a video: the shortest way, with the model in the box."""

import torch

from filmstrip import LTXPipeline, export_to_video

pipe = LTXPipeline.from_pretrained("shapes")
video = pipe(
    prompt="a red star spinning on a navy background",
    generator=torch.Generator().manual_seed(7),  # the same seed, the same video
).frames[0]
export_to_video(video, "star.mp4", fps=8)
