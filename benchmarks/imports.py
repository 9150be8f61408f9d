"""Import of one pipeline class, and the time to `--help`: CPU and wall seconds, against the reference in pairs.

python benchmarks/imports.py [--pairs 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

STATEMENTS = {
    "python alone": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import filmstrip": ["-c", "import filmstrip"],
    "from filmstrip import LTXPipeline": ["-c", "from filmstrip import LTXPipeline"],
    "from diffusers import LTXPipeline": ["-c", "from diffusers import LTXPipeline"],
    "filmstrip --help": [
        "-c",
        "import sys; sys.argv = ['filmstrip', '--help']; from filmstrip.cli import main; main()",
    ],
}


def measure(arguments: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of one Python process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    message = process.stderr.read() if process.stderr else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments[-1]!r} failed:\n{message}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    rounds = parser.parse_args().pairs
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in STATEMENTS}
    for _ in range(rounds + 1):
        for name, arguments in STATEMENTS.items():
            times[name].append(measure(arguments))
    medians = {}
    print(f"{'':36}{'CPU s':>8}{'wall s':>8}")
    for name, runs in times.items():
        warm = runs[1:]  # the first round fills the caches
        cpu, wall = (statistics.median(column) for column in zip(*warm, strict=True))
        medians[name] = cpu
        print(f"{name:36}{cpu:8.2f}{wall:8.2f}")
    ratio = medians["from filmstrip import LTXPipeline"] / medians["from diffusers import LTXPipeline"]
    print(f"\nratio of CPU, one pipeline class: {ratio:.2f}")


if __name__ == "__main__":
    main()
