"""Filmstrip turns a text, an image or a video into a video.

The public names resolve on first use, so that importing the package loads nothing heavy.
"""

from __future__ import annotations

# Modules only: whatever else stood here would look like a public name.
import importlib
import typing

from filmstrip import registry

__all__ = sorted(registry.PUBLIC)


def __getattr__(name: str) -> typing.Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("filmstrip")
    if name not in registry.PUBLIC:
        raise AttributeError(f"module 'filmstrip' has no attribute {name!r}")
    value = getattr(importlib.import_module(registry.PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *registry.PUBLIC, "__version__"})
