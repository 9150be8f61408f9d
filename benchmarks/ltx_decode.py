"""Decoding LTX-Video's latents with the released widths (0.9.0 and 0.9.5): CPU time and peak memory.

    python benchmarks/ltx_decode.py [--pairs 3] [--frames 3] [--height 8] [--width 12]

The sizes are the latents'. "decode" makes the whole video at once, as the reference does; "decode_stream" yields runs
of frames, which is what the pipelines write from. The peak counts the bytes of all tensors alive at a time, weights
left out.
"""

from __future__ import annotations

import argparse

import diffusers
import torch
from _pairs import HEADER, compare, peak_bytes, row

from filmstrip.models.ltx.autoencoder import AutoencoderKLLTXVideo

VERSIONS: dict[str, dict[str, object]] = {
    "0.9.0": {},
    "0.9.5": {
        "block_out_channels": (128, 256, 512, 1024, 2048),
        "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
        "decoder_block_out_channels": (256, 512, 1024),
        "layers_per_block": (4, 6, 6, 2, 2),
        "decoder_layers_per_block": (5, 5, 5, 5),
        "spatio_temporal_scaling": (True,) * 4,
        "decoder_spatio_temporal_scaling": (True,) * 3,
        "decoder_inject_noise": (False,) * 4,
        "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        "upsample_residual": (True,) * 3,
        "upsample_factor": (2,) * 3,
        "timestep_conditioning": True,
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
    },
}


def compare_version(name: str, dtype: torch.dtype, size: tuple[int, int, int], pairs: int) -> None:
    theirs = diffusers.AutoencoderKLLTXVideo(**VERSIONS[name]).to(dtype)
    ours = AutoencoderKLLTXVideo(**VERSIONS[name]).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    del theirs.encoder, ours.encoder
    latents = torch.randn(1, 128, *size).to(dtype)
    temb = torch.tensor([0.05], dtype=dtype) if VERSIONS[name].get("timestep_conditioning") else None

    def stream() -> None:
        for _ in ours.decode_stream(latents, temb):
            pass

    calls = {"decode": lambda: ours.decode(latents, temb), "decode_stream": stream}
    label = f"{name}, {str(dtype).removeprefix('torch.')}"
    their_peak = peak_bytes(lambda: theirs.decode(latents, temb))
    for call, run in calls.items():
        row(f"{label}, {call}, peak", peak_bytes(run) / 1e6, their_peak / 1e6, 0.6, "MB")
    for call, run in calls.items():
        compare(f"{label}, {call}", run, lambda: theirs.decode(latents, temb), 0.5, pairs)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--height", type=int, default=8)
    parser.add_argument("--width", type=int, default=12)
    parser.add_argument("--version", choices=VERSIONS, help="only this one")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(HEADER)
    for name in VERSIONS if arguments.version is None else [arguments.version]:
        for dtype in (torch.bfloat16, torch.float32):
            compare_version(name, dtype, (arguments.frames, arguments.height, arguments.width), arguments.pairs)


if __name__ == "__main__":
    main()
