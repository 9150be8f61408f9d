"""Decoding CogVideoX's latents at the published width: CPU time and peak memory.

    python benchmarks/cogvideox_vae.py [--pairs 1] [--frames 13] [--height 30] [--width 45] [--dtype bfloat16]

The sizes are the latents'. "decode" makes the whole video at once, as the reference does; "decode_stream" yields the
chunks that the pipelines write from. Both give the reference's pixels, which is checked first on a few frames. The peak
counts the bytes of all tensors alive at a time, weights left out.
"""

from __future__ import annotations

import argparse

import diffusers
import torch
from _pairs import HEADER, compare, peak_bytes, row

from filmstrip.models.cogvideox.autoencoder import AutoencoderKLCogVideoX

TARGET = 0.5


def compare_in(dtype: torch.dtype, size: tuple[int, int, int], pairs: int, parts: list[str]) -> None:
    theirs = diffusers.AutoencoderKLCogVideoX().eval().to(dtype)
    ours = AutoencoderKLCogVideoX().eval().to(dtype)
    ours.load_state_dict(theirs.state_dict())
    del theirs.encoder, ours.encoder
    latents = torch.randn(1, 16, *size).to(dtype)

    def stream() -> None:
        for _ in ours.decode_stream(latents):
            pass

    label = str(dtype).removeprefix("torch.")
    few = latents[:, :, :5, :6, :8]
    wanted = theirs.decode(few).sample.double()
    error = float((ours.decode(few).sample.double() - wanted).norm() / wanted.norm())
    print(f"{label}: pixels differ by {error:.1e} of the reference's")
    calls = {"decode": lambda: ours.decode(latents), "decode_stream": stream}
    if "peak" in parts:
        their_peak = peak_bytes(lambda: theirs.decode(latents))
        for name, call in calls.items():
            row(f"{label}, {name}, peak", peak_bytes(call) / 1e6, their_peak / 1e6, TARGET, "MB")
    if "time" in parts:
        # Both do the same work in the same chunks; one is enough.
        compare(f"{label}, decode_stream", stream, lambda: theirs.decode(latents), TARGET, pairs, warm_up=False)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--frames", type=int, default=13)
    parser.add_argument("--height", type=int, default=30)
    parser.add_argument("--width", type=int, default=45)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], help="only this one")
    parser.add_argument("--part", choices=["peak", "time"], help="only this one")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(HEADER)
    size = (arguments.frames, arguments.height, arguments.width)
    for dtype in ("bfloat16", "float32") if arguments.dtype is None else (arguments.dtype,):
        parts = ["peak", "time"] if arguments.part is None else [arguments.part]
        compare_in(getattr(torch, dtype), size, arguments.pairs, parts)


if __name__ == "__main__":
    main()
