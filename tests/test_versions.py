"""The package run from its sources, without having been installed."""

from importlib import metadata

import filmstrip
from filmstrip.configuration import Configured
from filmstrip.resume.unfinished import versions
from filmstrip.versions import FROM_SOURCES, version_of


def test_a_version_is_that_of_the_installed_package():
    assert version_of("torch") == metadata.version("torch")
    assert filmstrip.__version__ == version_of("filmstrip")


def test_without_being_installed_everything_that_writes_a_version_works(monkeypatch, tmp_path):
    def missing(name):
        if name == "filmstrip":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("filmstrip.versions.version", missing)
    assert filmstrip.__version__ == FROM_SOURCES
    assert versions() == {"filmstrip": FROM_SOURCES, "torch": "1.0", "transformers": "1.0"}

    class Example(Configured):
        config_name = "config.json"

        def __init__(self, size=3):
            pass

    Example().save_config(tmp_path)
    assert FROM_SOURCES in (tmp_path / "config.json").read_text()
