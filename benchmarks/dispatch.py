"""Python and dispatch: LTX-Video's transformer at its real depth, so narrow that arithmetic costs next to nothing.

    python benchmarks/dispatch.py [--pairs 20]

"As a run calls it" is with the prompt's keys and values and the table of rotations made once before the steps;
the other row makes them anew in every call, as the reference does.
"""

from __future__ import annotations

import argparse

import diffusers
import torch
from _pairs import HEADER, compare

from filmstrip.models.ltx.transformer import LTXVideoTransformer3DModel

CONFIG = {
    "num_layers": 28,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "cross_attention_dim": 32,
    "in_channels": 8,
    "out_channels": 8,
    "caption_channels": 16,
}
SIZE = {"num_frames": 2, "height": 2, "width": 4}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    pairs = parser.parse_args().pairs
    torch.manual_seed(0)
    print(HEADER)
    for dtype in (torch.float32, torch.bfloat16):
        theirs = diffusers.LTXVideoTransformer3DModel(**CONFIG).to(dtype)
        ours = LTXVideoTransformer3DModel(**CONFIG).to(dtype)
        ours.load_state_dict(theirs.state_dict())
        inputs = {"hidden_states": torch.randn(1, 16, 8).to(dtype), "timestep": torch.tensor([500.0])}
        mask = torch.ones(1, 8, dtype=dtype)
        caption = {"encoder_hidden_states": torch.randn(1, 8, 16).to(dtype), "encoder_attention_mask": mask}
        once = {
            "encoder_hidden_states": ours.prepare_prompt(*caption.values()),
            "rotary": ours.rotary(ours.grid_coordinates(tuple(SIZE.values()), None, torch.device("cpu"))),
        }

        name = str(dtype).removeprefix("torch.")
        compare(
            f"forward of 28 layers, {name}, as a run calls it",
            lambda ours=ours, inputs=inputs, once=once: ours(**inputs, **once),
            lambda theirs=theirs, inputs=inputs, caption=caption: theirs(**inputs, **caption, **SIZE),
            0.4,
            pairs,
        )
        compare(
            f"forward of 28 layers, {name}, all anew",
            lambda ours=ours, inputs=inputs, caption=caption: ours(**inputs, **caption, **SIZE),
            lambda theirs=theirs, inputs=inputs, caption=caption: theirs(**inputs, **caption, **SIZE),
            0.4,
            pairs,
        )


if __name__ == "__main__":
    main()
