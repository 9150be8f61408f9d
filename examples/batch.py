"""Videos of a list of prompts, two at a time: python batch.py [FILE WITH ONE PROMPT A LINE]

Each prompt has a seed of its own, so that a video does not depend on what else is in its batch.
"""

import sys
from pathlib import Path

import torch

from filmstrip import LTXPipeline, export_to_video

BATCH_SIZE = 2
PROMPTS = [
    "a red star spinning on a navy background",
    "a cyan circle moving left on a black background",
    "a purple square shrinking on a gray background",
]

prompts = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines() if len(sys.argv) > 1 else PROMPTS
pipe = LTXPipeline.from_pretrained("shapes")
for start in range(0, len(prompts), BATCH_SIZE):
    batch = prompts[start : start + BATCH_SIZE]
    generators = [torch.Generator().manual_seed(start + place) for place in range(len(batch))]
    for place, video in enumerate(pipe(prompt=batch, generator=generators).frames, start):
        export_to_video(video, f"video-{place}.mp4", fps=8)
        print(f"video-{place}.mp4: {prompts[place]}")
