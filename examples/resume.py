"""A run that dies is finished from what was kept, with the very frames that it would have made."""

from pathlib import Path

import torch

from filmstrip import LTXPipeline, export_to_video

call = {"prompt": "a white circle moving up on a brown background"}


def lose_power(pipeline, step, timestep, tensors):
    """Stand in for whatever ends a run: a crash, a kill, a full memory."""
    if step == 12:
        raise RuntimeError("no power")
    return {}


pipe = LTXPipeline.from_pretrained("shapes")
pipe.keep_unfinished("unfinished", every=5)  # the noisy latents after every fifth step, and finished ones always
try:
    pipe(**call, generator=torch.Generator().manual_seed(7), callback_on_step_end=lose_power)
except RuntimeError as error:
    print("The run ended:", error)

# Later, in another process: the same pipeline, and the file. Ten of the twenty steps need not be made again. At the
# command it is `filmstrip decode unfinished/<name>.latents.safetensors`.
[file] = Path("unfinished").iterdir()
print("Going on from", file)
pipe = LTXPipeline.from_pretrained("shapes")
frames = pipe.finish(file).frames[0]
export_to_video(frames, "circle.mp4", fps=8)
