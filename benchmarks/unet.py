"""One step of Stable Diffusion 1.5's U-Net at its full width and depth, latents of 32 x 32.

    python benchmarks/unet.py [--pairs 3] [--batch 2 --batch 8] [--dtype bfloat16]

Twice: as a pipeline calls it, which computes keys and values of the prompt once for all steps, and all anew. Without
--batch, two pictures and eight frames.
"""

from __future__ import annotations

import argparse

import diffusers
import torch
from _pairs import HEADER, compare

from filmstrip.models.stable_diffusion.unet import UNet2DConditionModel
from filmstrip.nn.attention_layers import remembering_prompts

CONFIG = {
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "sample_size": 64,
}
PROMPT_TOKENS = 77
TARGETS = {torch.bfloat16: 0.6, torch.float32: 0.85}


def compare_type(dtype: torch.dtype, batches: list[int], size: int, pairs: int) -> None:
    theirs = diffusers.UNet2DConditionModel(**CONFIG).to(dtype).eval()
    ours = UNet2DConditionModel(**CONFIG).to(dtype).eval()
    ours.load_state_dict(theirs.state_dict())
    for batch in batches:
        latents = torch.randn(batch, 4, size, size).to(dtype)
        prompt = torch.randn(batch, PROMPT_TOKENS, CONFIG["cross_attention_dim"]).to(dtype)
        label = f"{str(dtype).removeprefix('torch.')}, {batch} pictures"

        def reference(latents: torch.Tensor = latents, prompt: torch.Tensor = prompt) -> object:
            return theirs(latents, 500, prompt).sample

        def anew(latents: torch.Tensor = latents, prompt: torch.Tensor = prompt) -> object:
            return ours(latents, 500, prompt).sample

        as_a_run = remembering_prompts(anew)
        compare(f"{label}, as a run calls it", as_a_run, reference, TARGETS[dtype], pairs)
        compare(f"{label}, all anew", anew, reference, TARGETS[dtype], pairs)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--batch", type=int, action="append", help="pictures of one step")
    parser.add_argument("--size", type=int, default=32, help="height and width of the latents")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], action="append", help="only this one")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(HEADER)
    for name in arguments.dtype or ["bfloat16", "float32"]:
        compare_type(getattr(torch, name), arguments.batch or [2, 8], arguments.size, arguments.pairs)


if __name__ == "__main__":
    main()
