"""`__all__` is exactly what can be imported."""

import importlib
import os
import subprocess
import sys
import traceback
import types
import zipfile

import pytest

import filmstrip
from filmstrip import registry
from filmstrip.registry import PUBLIC
from tests.guards.source import PACKAGE, ROOT, package_sources


def unlisted(module: types.ModuleType) -> set[str]:
    """Public names that lie about in a module without being listed in its `__all__`."""
    names = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    return names - set(module.__all__)


def missing(module: types.ModuleType) -> set[str]:
    """Listed names that can't be had."""
    return {name for name in module.__all__ if not hasattr(module, name)}


def test_all_is_the_sorted_table_of_public_names():
    assert list(filmstrip.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_is_what_its_module_defines(name):
    assert getattr(filmstrip, name) is getattr(importlib.import_module(PUBLIC[name]), name)


def test_nothing_else_can_be_imported():
    assert not unlisted(filmstrip)
    with pytest.raises(ImportError):
        exec("from filmstrip import NoSuchName")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import torch\ntorch.ops.no_such_library.no_such_operator.default", "no_such_library"),
        ("raise AttributeError('a private operator is gone')", "a private operator is gone"),
        ("import no_such_library", "No module named 'no_such_library'"),
        ("raise ImportError('install filmstrip[edges] for that')", r"install filmstrip\[edges\] for that"),
        ("other = 1", "has no attribute 'Broken'"),
    ],
)
def test_an_import_that_fails_says_why(tmp_path, monkeypatch, text, sentence):
    (tmp_path / "broken_module.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.PUBLIC.own, "Broken", "broken_module")
    with pytest.raises(ImportError, match=sentence) as caught:
        exec("from filmstrip import Broken")
    sys.modules.pop("broken_module", None)
    error = caught.value
    if "AttributeError" in text or "torch" in text:
        assert isinstance(error.__cause__, AttributeError)
        assert "broken_module.py" in "".join(traceback.format_exception(error))


def test_families_are_found_in_a_zip_too(tmp_path):
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        for path in (ROOT / "src").rglob("*.py"):
            packed.write(path, path.relative_to(ROOT / "src"))
    code = "import filmstrip; print(filmstrip.__file__, *filmstrip.__all__)"
    path = {**os.environ, "PYTHONPATH": str(tmp_path / "packed.zip")}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True)
    place, *names = done.stdout.split()
    assert "packed.zip" in place
    assert names == sorted(PUBLIC)


def test_dir_lists_every_public_name():
    assert set(PUBLIC) <= set(dir(filmstrip))


@pytest.mark.parametrize(
    "source", [source for source in package_sources() if "__all__" in source.text], ids=lambda source: source.module
)
def test_a_modules_all_can_be_imported(source):
    if source.module != PACKAGE:
        module = importlib.import_module(source.module)
        assert not missing(module)
        assert len(set(module.__all__)) == len(module.__all__)


def test_a_stray_name_and_a_missing_one_are_found():
    module = types.ModuleType("sample")
    module.__all__ = ["listed", "gone"]
    module.listed = module.stray = 1
    module.json = importlib.import_module("json")
    assert unlisted(module) == {"stray"}
    assert missing(module) == {"gone"}
