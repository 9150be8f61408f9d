"""The toy family, put beside the others as whoever adds one does it."""

import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest

import filmstrip
import filmstrip.models

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder with the toy in `models/`, and its cases in `tests/models/`."""
    folder = tmp_path_factory.mktemp("outside")
    shutil.copytree(HERE / "toy", folder / "models" / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests" / "models" / "toy").mkdir(parents=True)
    shutil.copy(HERE / "toy_cases.py", folder / "tests" / "models" / "toy" / "cases.py")
    return folder


@pytest.fixture
def toy(folder, monkeypatch):
    """The toy's package, which is a family for as long as the test runs."""
    monkeypatch.setattr(filmstrip.models, "__path__", [*filmstrip.models.__path__, str(folder / "models")])
    yield import_module("filmstrip.models.toy")
    del filmstrip.models.toy
    for name in [name for name in sys.modules if name.startswith("filmstrip.models.toy")]:
        del sys.modules[name]
    for name in ("ToyPipeline", "ToyTransformer"):
        vars(filmstrip).pop(name, None)
