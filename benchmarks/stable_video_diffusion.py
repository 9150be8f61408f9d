"""Decoding videos with Stable Video Diffusion's autoencoder, and one call of its U-Net, at their released widths.

    python benchmarks/stable_video_diffusion.py [--pairs 3] [--frames 14] [--rows 36] [--columns 64] [--part decode]

Peaks are of memory that a call allocates, weights apart. "joints" shows what chunks of frames make of a video: how far
it is from all frames decoded together, by the frames that each chunk sees beyond its own.
"""

from __future__ import annotations

import argparse

import diffusers
import torch
from _pairs import HEADER, compare, peak_bytes, row

from filmstrip import AutoencoderKLTemporalDecoder, UNet2DConditionModel, UNetSpatioTemporalConditionModel

AUTOENCODER = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 768,
}
# The first and the last block of the released network on either way, with all that they are made of.
UNET = {
    "block_out_channels": (320, 640),
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "num_attention_heads": (5, 10),
    "layers_per_block": 1,
}
PICTURE_UNET = {
    "block_out_channels": (320, 640),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 768,
    "layers_per_block": 1,
}
TIME, PEAK, STEP = 0.8, 0.3, 0.9


def autoencoders(dtype: torch.dtype) -> tuple[AutoencoderKLTemporalDecoder, diffusers.AutoencoderKLTemporalDecoder]:
    theirs = diffusers.AutoencoderKLTemporalDecoder(**AUTOENCODER).to(dtype).eval()
    ours = AutoencoderKLTemporalDecoder(**AUTOENCODER).to(dtype).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def decode(dtype: torch.dtype, frames: int, size: tuple[int, int], pairs: int) -> None:
    ours, theirs = autoencoders(dtype)
    latents = torch.randn(frames, 4, *size).to(dtype)
    label = f"decode {frames} x {size[0]} x {size[1]}, {str(dtype).removeprefix('torch.')}"
    made, expected = ours.decode(latents, frames).sample.float(), theirs.decode(latents, frames).sample.float()
    print(f"{label}, relative error {float((made - expected).norm() / expected.norm()):.1e}")
    peaks = [peak_bytes(lambda model=model: model.decode(latents, frames)) / 1e6 for model in (ours, theirs)]
    row(f"{label}, peak", *peaks, PEAK, "MB")
    if pairs:
        compare(label, lambda: ours.decode(latents, frames), lambda: theirs.decode(latents, frames), TIME, pairs, False)


def joints(frames: int, size: tuple[int, int]) -> None:
    ours, _ = autoencoders(torch.float32)
    latents = torch.randn(1, 4, *size) + 0.3 * torch.randn(frames, 4, *size)
    whole = ours.decode(latents, frames).sample
    for chunk in (2, 8):
        found = []
        for overlap in (0, 1, 2, 4):
            part = ours.decode(latents, frames, coding=ours.in_chunks(chunk, overlap)).sample
            found.append(f"{overlap}: {float((part - whole).norm() / whole.norm()):.1e}")
        print(f"chunks of {chunk} frames, error by frames beyond  {'  '.join(found)}", flush=True)


def step(dtype: torch.dtype, frames: int, size: tuple[int, int], pairs: int) -> None:
    theirs = diffusers.UNetSpatioTemporalConditionModel(**UNET).to(dtype).eval()
    ours = UNetSpatioTemporalConditionModel(**UNET).to(dtype).eval()
    ours.load_state_dict(theirs.state_dict())
    sample, embeds = torch.randn(1, frames, 8, *size).to(dtype), torch.randn(1, 1, 1024).to(dtype)
    given = sample, 1.0, embeds, torch.tensor([[6.0, 127.0, 0.02]])
    name = str(dtype).removeprefix("torch.")
    peaks = [peak_bytes(lambda model=model: model(*given)) / 1e6 for model in (ours, theirs)]
    row(f"U-Net {frames} x {size[0]} x {size[1]}, {name}, peak", *peaks, None, "MB")
    label = f"U-Net {frames} x {size[0]} x {size[1]}, {name}"
    compare(label, lambda: ours(*given), lambda: theirs(*given), STEP, pairs)

    their_picture = diffusers.UNet2DConditionModel(**PICTURE_UNET).to(dtype).eval()
    our_picture = UNet2DConditionModel(**PICTURE_UNET).to(dtype).eval()
    our_picture.load_state_dict(their_picture.state_dict())
    pictures = sample[0, :, :4].contiguous(), 1.0, torch.randn(frames, 77, 768).to(dtype)
    label = f"beside it Stable Diffusion's, {frames} pictures"
    compare(label, lambda: our_picture(*pictures), lambda: their_picture(*pictures), None, pairs)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=14)
    parser.add_argument("--rows", type=int, default=36, help="of the latents")
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="float32")
    parser.add_argument("--part", choices=["decode", "joints", "step"], action="append", help="only this one")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dtype, size = getattr(torch, arguments.dtype), (arguments.rows, arguments.columns)
    print(HEADER)
    for part in arguments.part or ["decode", "joints", "step"]:
        if part == "decode":
            decode(dtype, arguments.frames, size, arguments.pairs)
        elif part == "joints":
            joints(arguments.frames, size)
        else:
            step(dtype, arguments.frames, size, arguments.pairs)


if __name__ == "__main__":
    main()
