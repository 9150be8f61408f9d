"""The GPU check is itself checked where there is no GPU: on an imitated device, in miniature, without PyAV."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
WITHOUT = """
import importlib.util, sys
absent, find_spec = ("av", "diffusers", "cv2", "accelerate", "scipy", "imageio", "torchao"), importlib.util.find_spec
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
importlib.util.find_spec = lambda name, *given: None if name.partition(".")[0] in absent else find_spec(name, *given)
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def run(*command):
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


def test_its_tests_run_on_an_imitated_device_without_pyav_and_without_the_reference():
    chosen = "(LTX and text and not image) or removed"
    done = run("-c", WITHOUT, "-v", "-p", "tests.gpu.imitation", "-m", "gpu", "-k", chosen, "tests/gpu")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_its_measurements_run_in_miniature(tmp_path):
    out = tmp_path / "gpu.jsonl"
    command = ["--miniature", "--seconds-per-case", "0", "--limit", "900", "--case-limit", "300", "--out", str(out)]
    done = run("benchmarks/gpu.py", *command, "--only", "stable-diffusion")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["case"] for row in rows} == {"device", "stable-diffusion decode, eager"}
    assert rows[-1]["difference"] < 0.05
    assert "| stable-diffusion decode, eager (part by part) |" in done.stdout


@pytest.mark.parametrize("reason", ["silent", "ended"])
def test_a_case_that_hangs_or_ends_the_process_is_told_and_the_others_go_on(reason, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    child = tmp_path / "child.py"
    child.write_text(
        "import json, os, sys, time\n"
        "done = json.loads(sys.argv[1])\n"
        "def tell(**row): print(json.dumps(row), flush=True)\n"
        "for case in ('first', 'bad', 'last'):\n"
        "    if case in done: continue\n"
        "    tell(begin=case)\n"
        f"    if case == 'bad': time.sleep(60) if {reason!r} == 'silent' else os._exit(3)\n"
        "    tell(case=case, value=1)\n"
        "    tell(end=case)\n"
    )
    monkeypatch.setattr(gpu, "child_command", lambda _, done: [sys.executable, str(child), json.dumps(done)])
    arguments = type("Arguments", (), {"limit": 60, "case_limit": 3})
    rows = list(gpu.watched(arguments))
    assert [row["case"] for row in rows] == ["first", "bad", "last"]
    assert ("took over 3 s" if reason == "silent" else "ended with 3") in rows[1]["error"]
    assert gpu.tables([]) and "bad: " in gpu.tables(rows)
