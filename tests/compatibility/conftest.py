"""A cache of the hub in the folder of a test."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Save a pipeline in a cache folder, as a download of that repository would have left it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setitem(sys.modules, "mindspore", SimpleNamespace(bfloat16="BFloat16"))
    monkeypatch.chdir(tmp_path)
    revision = "0" * 40

    def save(name: str, pipeline: Any, **settings: Any) -> None:
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(revision)
        pipeline.save_pretrained(repository / "snapshots" / revision, **settings)

    return save
