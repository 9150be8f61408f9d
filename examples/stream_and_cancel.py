"""Read what happens while a video is made, use frames as they come, and stop in the middle of another."""

import torch

from filmstrip import LTXPipeline

pipe = LTXPipeline.from_pretrained("shapes")

# `stream` takes the arguments of a call and yields events: encode, denoise, decode, done.
for event in pipe.stream(prompt="a yellow triangle growing", generator=torch.Generator().manual_seed(7)):
    print(f"{event.seconds:5.1f} s  {event.stage} {event.step} of {event.total}")
    if event.stage == "decode":
        print("         frames so far:", tuple(event.frames.shape))  # (batch, 3, frames, height, width) in [-1, 1]
    if event.stage == "done":
        event.output.frames[0][0].save("first-frame.png")

# To cancel is to stop reading. The pipeline is ready for the next call at once.
for event in pipe.stream(prompt="a cyan circle shrinking"):
    if event.stage == "denoise" and event.step == 3:
        print("That is enough.")
        break
