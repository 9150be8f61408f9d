"""Decoding pictures with Stable Diffusion's autoencoder at its released widths, and encoding them.

    python benchmarks/autoencoder_kl.py [--pairs 3] [--frames 8] [--size 32] [--dtype bfloat16]

Ours decodes picture by picture. Peaks are of memory that a call allocates, weights apart.
"""

from __future__ import annotations

import argparse

import diffusers
import torch
from _pairs import HEADER, compare, peak_bytes, row

from filmstrip.models.stable_diffusion.autoencoder import AutoencoderKL

CONFIG = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
TIME, PEAK = 0.85, 0.1


def compare_type(dtype: torch.dtype, frames: int, size: int, pairs: int) -> None:
    theirs = diffusers.AutoencoderKL(**CONFIG).to(dtype).eval()
    ours = AutoencoderKL(**CONFIG).to(dtype).eval()
    ours.load_state_dict(theirs.state_dict())
    latents = torch.randn(frames, 4, size, size).to(dtype)
    pictures = torch.randn(1, 3, 8 * size, 8 * size).clamp(-1, 1).to(dtype)

    def stream() -> None:
        for _ in ours.decode_stream(latents):
            pass

    label = f"{frames} frames, {str(dtype).removeprefix('torch.')}"
    their_peak = peak_bytes(lambda: theirs.decode(latents))
    row(f"{label}, decode_stream, peak", peak_bytes(stream) / 1e6, their_peak / 1e6, PEAK, "MB")
    row(f"{label}, decode, peak", peak_bytes(lambda: ours.decode(latents)) / 1e6, their_peak / 1e6, PEAK, "MB")
    compare(f"{label}, decode_stream", stream, lambda: theirs.decode(latents), TIME, pairs)
    compare(f"1 frame, {label.split(', ')[1]}, encode", lambda: ours.encode(pictures), lambda: theirs.encode(pictures))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=32, help="height and width of the latents")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], action="append", help="only this one")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(HEADER)
    for name in arguments.dtype or ["bfloat16", "float32"]:
        compare_type(getattr(torch, name), arguments.frames, arguments.size, arguments.pairs)


if __name__ == "__main__":
    main()
