"""Importing the package costs nothing: no library, no file, no network, no process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from filmstrip.registry import families
from tests.guards.source import ROOT

FAMILY_FILES = sorted({f"{one.package}.family" for one in families()})

# Runs in a fresh interpreter: what a module does while it is imported, beyond the interpreter's own import machinery
# (which lists folders and reads source and byte code, and may write byte code unless told not to).
WATCH = """
import json, os, sys

before = set(sys.modules)
touched = []

def watch(event, arguments):
    if event == "open":
        name = os.fsdecode(arguments[0]) if not isinstance(arguments[0], int) else f"descriptor {arguments[0]}"
        if not name.endswith((".py", ".pyc", ".so", ".pyd")):
            touched.append(f"open {name}")
    elif event.split(".")[0] in ("socket", "subprocess", "shutil", "tempfile") or event in (
        "os.system", "os.posix_spawn", "os.fork", "os.exec", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
    ):
        touched.append(event)

sys.addaudithook(watch)
__import__(sys.argv[1])
report = list(touched)
libraries = {name.partition(".")[0] for name in set(sys.modules) - before}
libraries -= {sys.argv[1].partition(".")[0], *sys.stdlib_module_names}
sys.stdout.write(json.dumps([sorted(libraries), report]))
"""


def import_effects(module: str, folder: Path | None = None) -> tuple[list[str], list[str]]:
    """(libraries outside the standard one that were loaded, what was touched)."""
    command = [sys.executable, "-B", "-c", WATCH, module]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    libraries, touched = json.loads(done.stdout)
    return libraries, touched


LOADED = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
sys.stdout.write(json.dumps([name for name in sys.modules if name.startswith("filmstrip.")]))
"""
NETWORKS = sorted(
    path
    for name in ("transformer", "unet", "controlnet", "upsampler")
    for path in (ROOT / "src" / "filmstrip" / "models").glob(f"*/{name}.py")
)


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_network_loads_nothing_that_loads_or_places_it(path):
    module = f"filmstrip.models.{path.parent.name}.{path.stem}"
    command = [sys.executable, "-c", LOADED, module]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert "filmstrip.network" in loaded
    assert [name for name in loaded if name.startswith(("filmstrip.checkpoints", "filmstrip.memory"))] == []


@pytest.mark.parametrize("module", ["filmstrip", "filmstrip.registry", "filmstrip.jobs", *FAMILY_FILES])
def test_importing_the_package_loads_no_library_and_touches_nothing(module):
    assert import_effects(module) == ([], [])


@pytest.mark.parametrize(
    ("text", "libraries", "touched"),
    [
        ("import numpy", ["numpy"], []),
        ("open('notes.txt', 'w').close()", [], ["open notes.txt"]),
        ("import pathlib; pathlib.Path('sample.py').exists(); open('data.json', 'a').close()", [], ["open data.json"]),
        ("import socket; socket.socket().close()", [], ["socket.__new__"]),
        ("import os; os.mkdir('cache')", [], ["os.mkdir"]),
    ],
)
def test_an_import_with_an_effect_is_found(tmp_path, text, libraries, touched):
    (tmp_path / "sample.py").write_text(text, encoding="utf-8")
    found_libraries, found_touched = import_effects("sample", tmp_path)
    assert set(libraries) <= set(found_libraries)
    assert set(touched) <= set(found_touched)
    assert libraries or touched
