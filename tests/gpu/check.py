"""The GPU check, `make gpu`: the tests marked `gpu`, then `benchmarks/gpu.py`, each within its own time.

It uses the Python that runs it and installs nothing. Results go to --out (tests.txt, gpu.jsonl, gpu.txt) as they come.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
HELPERS = {
    "diffusers": "nothing is compared with the reference",
    "torchao": "quantisation is not tested",
    "av": "no video is written, and no test needs one",
    "xdist": "tests run one after the other",
}


def is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def run(title: str, command: list[str], seconds: float, output: Path) -> str:
    """What a part came to: "passed", or why not. Its output is shown, and kept in a file."""
    print(f"== {title}, at most {seconds:.0f} s", flush=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            code = None
    print(output.read_text(encoding="utf-8")[-6000:], flush=True)
    return "took too long and was ended" if code is None else "passed" if code == 0 else f"failed ({code})"


def tests_command(workers: int) -> list[str]:
    # Plugins that happen to be installed have no part in this; warnings of other versions of torch are no failures.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-vv",
        "-rfEs",
        "--durations=15",
        "--tb=short",
        "-W",
        "default",
        "-p",
        "no:cacheprovider",
    ]
    # Compiling takes long: whoever is ready takes over what another has ahead of it.
    command += ["-p", "xdist", "--dist", "worksteal", "-n", str(workers)] if is_there("xdist") and workers else []
    return [*command, "-m", "gpu", "tests/gpu"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=350, help="for everything")
    parser.add_argument("--tests-seconds", type=float, default=200, help="of that at most for the tests")
    parser.add_argument(
        "--workers", type=int, default=min(12, max(1, (os.cpu_count() or 2) * 3 // 4)), help="of the tests"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "gpu", help="folder for the results")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path.insert(0, str(ROOT / "src"))
    from filmstrip.devices import has_accelerator, summarize_devices

    if not has_accelerator():
        print("There is no accelerator here that torch can use.", file=sys.stderr)
        return 2
    print(f"{summarize_devices()[0].title}; Python {sys.version.split()[0]}")
    for module, without in HELPERS.items():
        if not is_there(module):
            print(f"{module} is not installed: {without}.")
    came_to = {}
    if is_there("pytest"):
        tests = tests_command(arguments.workers)
        came_to["tests"] = run("tests", tests, arguments.tests_seconds, arguments.out / "tests.txt")
    else:
        print("pytest is not installed: the tests marked gpu are left out.")
        came_to["tests"] = "left out, since pytest is not installed"
    seconds = max(30.0, deadline - time.monotonic())
    measure = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--limit", str(seconds - 10)]
    measure += ["--out", str(arguments.out / "gpu.jsonl")]
    came_to["benchmarks"] = run("benchmarks", measure, seconds, arguments.out / "gpu.txt")
    for part, said in came_to.items():
        print(f"{part}: {said}")
    return 0 if all(said.startswith(("passed", "left out")) for said in came_to.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
