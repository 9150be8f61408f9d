"""Filmstrip turns a text, an image or a video into a video.

The public names resolve on first use, so that importing the package loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from filmstrip.registry import PUBLIC

__all__ = sorted(PUBLIC)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("filmstrip")
    if name not in PUBLIC:
        raise AttributeError(f"module 'filmstrip' has no attribute {name!r}")
    value = getattr(import_module(PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC, "__version__"})
