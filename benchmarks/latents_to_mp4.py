"""From decoded pixels to a finished mp4: 49 frames of 480 x 704, the step after the decoder.

    python benchmarks/latents_to_mp4.py [--pairs 3]

The decoder is measured alone in ltx_decode.py. CPU seconds are those of this process and its children, since the
reference encodes in one; both sides write H.264 with their own defaults, so file sizes are printed too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _pairs import HEADER, row
from diffusers.utils import export_to_video as their_export
from diffusers.video_processor import VideoProcessor

from filmstrip.media import export_to_video
from filmstrip.media.pixels import video_to_output


def cpu_seconds(call: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds with those of finished children, and wall seconds."""
    before, wall = os.times(), time.perf_counter()
    call()
    after = os.times()
    return sum(after[:4]) - sum(before[:4]), time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    pairs = parser.parse_args().pairs
    torch.manual_seed(0)
    torch.set_num_threads(1)
    coarse = torch.randn(1, 3, 9, 15, 22)
    video = torch.nn.functional.interpolate(coarse, (49, 480, 704), mode="trilinear").tanh()
    processor = VideoProcessor(vae_scale_factor=32)
    print(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        ours_path, their_path = Path(folder) / "ours.mp4", Path(folder) / "theirs.mp4"
        for dtype in (torch.float32, torch.bfloat16):
            pixels = video.to(dtype)

            def ours(pixels: torch.Tensor = pixels) -> None:
                export_to_video(video_to_output(pixels, "uint8")[0], ours_path, fps=24)

            def reference(pixels: torch.Tensor = pixels) -> None:
                their_export(processor.postprocess_video(pixels, output_type="pil")[0], str(their_path), fps=24)

            ours(), reference()
            measured = [(*cpu_seconds(ours), *cpu_seconds(reference)) for _ in range(pairs)]
            cpu, wall, their_cpu, their_wall = (statistics.median(column) for column in zip(*measured, strict=True))
            name = f"pixels to mp4, {str(dtype).removeprefix('torch.')}"
            row(name, cpu * 1e3, their_cpu * 1e3, 0.5, "ms", wall / their_wall)
        row("size of the file", ours_path.stat().st_size / 1e3, their_path.stat().st_size / 1e3, None, "kB")


if __name__ == "__main__":
    main()
