"""One block of LTX-Video's transformer at its released width: 32 heads of 64, 2,016 tokens, 128 of prompt.

    python benchmarks/ltx_block.py [--pairs 5]

The reference projects the prompt to keys and values in every step. Ours does it once for a run (`prepare_prompt`);
"unprepared" repeats it in every call, so that both sides do the same work.
"""

from __future__ import annotations

import argparse

import diffusers
import torch
from _pairs import HEADER, compare

from filmstrip.models.ltx.transformer import LTXVideoTransformer3DModel

CONFIG = {"num_layers": 1, "caption_channels": 4096}
SIZE = {"num_frames": 6, "height": 14, "width": 24}  # latents: 2,016 tokens
PROMPT_TOKENS = 128


def compare_blocks(dtype: torch.dtype, pairs: int) -> None:
    theirs = diffusers.LTXVideoTransformer3DModel(**CONFIG).to(dtype)
    ours = LTXVideoTransformer3DModel(**CONFIG).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    block, their_block = ours.transformer_blocks[0], theirs.transformer_blocks[0]

    size = tuple(SIZE.values())
    dim = ours.inner_dim
    hidden_states = torch.randn(1, size[0] * size[1] * size[2], dim).to(dtype)
    context = torch.randn(1, PROMPT_TOKENS, dim).to(dtype)
    temb = torch.randn(1, 1, 6 * dim).to(dtype)
    rotary = ours.rotary(ours.grid_coordinates(size, None, torch.device("cpu")))
    their_rotary = theirs.rope(hidden_states, *size)
    prompt = block.attn2.keys_and_values(context)

    def reference() -> torch.Tensor:
        return their_block(hidden_states, context, temb, their_rotary)

    def unprepared() -> torch.Tensor:
        return block(hidden_states, temb, rotary, block.attn2.keys_and_values(context), None)

    def prepared() -> torch.Tensor:
        return block(hidden_states, temb, rotary, prompt, None)

    target = 0.65 if dtype == torch.bfloat16 else 1.0
    name = str(dtype).removeprefix("torch.")
    compare(f"block, {name}, prepared prompt", prepared, reference, target, pairs)
    compare(f"block, {name}, unprepared", unprepared, reference, target, pairs)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    torch.manual_seed(0)
    print(HEADER)
    for dtype in (torch.bfloat16, torch.float32):
        compare_blocks(dtype, pairs)


if __name__ == "__main__":
    main()
