"""Loading a 2 GB bfloat16 transformer: CPU seconds and peak memory, against the reference in pairs.

    python benchmarks/load.py [--gigabytes 2] [--pairs 3]

Each load runs in its own process, ours and the reference's in turn. "Load" ends when `from_pretrained` returns;
"touched" when every byte of the weights was used once, so that a mapped file has no advantage on paper only.
The peak is that of the resident memory over what the process held before the load, mapped pages included.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = {"num_layers": 1, "attention_head_dim": 64, "num_attention_heads": 32, "cross_attention_dim": 2048}
CASES = {
    "bfloat16 asked for": "bfloat16",
    "no dtype given": None,
}


def write_checkpoint(folder: Path, gigabytes: float, max_shard_size: str = "100GB") -> int:
    """A transformer of the LTX width with as many layers as fill the size; returns the bytes of its first file."""
    import torch

    from filmstrip import LTXVideoTransformer3DModel

    def build(num_layers: int) -> torch.nn.Module:
        with torch.device("meta"):
            return LTXVideoTransformer3DModel(**CONFIG | {"num_layers": num_layers}).bfloat16()

    def size(model: torch.nn.Module) -> int:
        return sum(parameter.nbytes for parameter in model.parameters())

    per_layer = size(build(2)) - size(build(1))
    model = build(max(1, round(gigabytes * 1e9 / per_layer))).to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.uniform_(-0.05, 0.05)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return next(folder.glob("*.safetensors")).stat().st_size


def resident(field: str) -> int:
    """Bytes in use now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def load_once(side: str, folder: str, dtype: str | None) -> None:
    """What one child process does; prints its numbers as JSON."""
    import torch

    torch.set_num_threads(1)
    if side == "ours":
        from filmstrip import LTXVideoTransformer3DModel
    else:
        from diffusers import LTXVideoTransformer3DModel
    given = {} if dtype is None else {"torch_dtype": getattr(torch, dtype)}
    gc.collect()  # what importing left to collect is not the load's, whichever side would have to pay for it
    before = resident("VmRSS")
    start = time.process_time()
    model = LTXVideoTransformer3DModel.from_pretrained(folder, **given)
    loaded = time.process_time() - start
    sum(float(parameter.detach().sum()) for parameter in model.parameters())
    touched = time.process_time() - start
    numbers = {
        "load": loaded,
        "touched": touched,
        "peak": max(0, resident("VmHWM") - before),
        "dtype": str(model.dtype),
    }
    sys.stdout.write(json.dumps(numbers) + "\n")


def run_child(side: str, folder: Path, dtype: str | None) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, "--child", side, "--folder", str(folder)]
    if dtype:
        command += ["--dtype", dtype]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return json.loads(output.splitlines()[-1])


def report(case: str, file_bytes: int, runs: dict[str, list[dict[str, float]]]) -> None:
    print(f"\n{case} (file {file_bytes / 1e9:.2f} GB)")
    print(f"{'':14}{'ours':>12}{'reference':>12}{'ratio':>8}")
    for name, unit in (("load", "s CPU"), ("touched", "s CPU"), ("peak", "of file")):
        ours, theirs = (statistics.median(run[name] for run in runs[side]) for side in ("ours", "reference"))
        if name == "peak":
            ours, theirs = ours / file_bytes, theirs / file_bytes
        print(f"{name:8}{unit:>7}{ours:12.3f}{theirs:12.3f}{ours / theirs:8.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--child", choices=["ours", "reference"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        load_once(arguments.child, arguments.folder, arguments.dtype)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file_bytes = write_checkpoint(folder, arguments.gigabytes)
        for case, dtype in CASES.items():
            runs: dict[str, list[dict[str, float]]] = {"ours": [], "reference": []}
            for _ in range(arguments.pairs):
                for side, results in runs.items():
                    results.append(run_child(side, folder, dtype))
            report(case, file_bytes, runs)


if __name__ == "__main__":
    main()
