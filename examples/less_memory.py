"""Make a video within a given memory: ask what it needs, let a plan choose, or choose by hand."""

import torch

from filmstrip import LTXPipeline, export_to_video

call = {"prompt": "a blue star moving left on a gray background", "num_frames": 17}

# A plan goes through the call without weights and finds the quickest way that fits. Without `device` it plans for the
# best one there is.
pipe = LTXPipeline.from_pretrained("shapes")
plan = pipe.fit("200MB", device="cpu", **call)
print(plan)
planned = pipe(**call, generator=torch.Generator().manual_seed(7)).frames[0]
export_to_video(planned, "planned.mp4", fps=8)

# By hand: weights stay in the host's memory and come to the accelerator block by block. The video is the same to the
# bit. Where there is no accelerator this does nothing, and says so.
pipe = LTXPipeline.from_pretrained("shapes")
pipe.enable_group_offload("cuda", num_blocks_per_group=2, use_stream=True)
pipe.vae.enable_tiling()  # for pictures larger than a tile: it decodes them tile by tile
offloaded = pipe(**call, generator=torch.Generator().manual_seed(7)).frames[0]
export_to_video(offloaded, "offloaded.mp4", fps=8)
