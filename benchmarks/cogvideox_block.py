"""One step of CogVideoX's transformer at its released widths, two layers deep, 2,176 tokens, 226 of them the prompt's.

    python benchmarks/cogvideox_block.py [--pairs 5] [--dtype bfloat16]

2b is 30 heads of 64 and has sine positions; 5b is 48 heads of 64 and turns queries and keys. The reference's table of
rotations is made once, as its pipelines do.
"""

from __future__ import annotations

import argparse

import diffusers
import torch
from _pairs import HEADER, compare

from filmstrip.models.cogvideox.transformer import CogVideoXTransformer3DModel

WIDTHS = {
    "2b": {"num_attention_heads": 30, "use_rotary_positional_embeddings": False},
    "5b": {"num_attention_heads": 48, "use_rotary_positional_embeddings": True},
}
SIZE = (5, 30, 52)  # latents: 1,950 patches
PROMPT_TOKENS = 226
TARGETS = {torch.bfloat16: 0.75, torch.float32: 1.0}


def compare_steps(width: str, dtype: torch.dtype, pairs: int) -> None:
    config = {"num_layers": 2, **WIDTHS[width]}
    theirs = diffusers.CogVideoXTransformer3DModel(**config).to(dtype).eval()
    ours = CogVideoXTransformer3DModel(**config).to(dtype).eval()
    ours.load_state_dict(theirs.state_dict())
    frames, height, width_ = SIZE
    inputs = {
        "hidden_states": torch.randn(1, frames, 16, height, width_).to(dtype),
        "encoder_hidden_states": torch.randn(1, PROMPT_TOKENS, 4096).to(dtype),
        "timestep": torch.tensor([500]),
    }
    table = ours.rotary_table(SIZE)
    their_table = None if table is None else tuple(part.repeat_interleave(2, -1) for part in table.unbind(-1))

    name = str(dtype).removeprefix("torch.")
    compare(
        f"two layers of {width}, {name}",
        lambda: ours(**inputs, image_rotary_emb=table).sample,
        lambda: theirs(**inputs, image_rotary_emb=their_table).sample,
        TARGETS[dtype],
        pairs,
    )


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], action="append", help="only this one")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(HEADER)
    for name in arguments.dtype or ["bfloat16", "float32"]:
        for width in WIDTHS:
            compare_steps(width, getattr(torch, name), arguments.pairs)


if __name__ == "__main__":
    main()
