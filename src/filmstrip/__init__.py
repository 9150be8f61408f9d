"""Filmstrip turns a text, an image or a video into a video.

The public names resolve on first use, so that importing the package loads nothing heavy. Type checkers find them in
`__init__.pyi`.
"""

from __future__ import annotations

# Modules only: whatever else stood here would look like a public name.
import typing

from filmstrip import families, registry


def __getattr__(name: str) -> typing.Any:
    if name == "__all__":
        return sorted(registry.PUBLIC)
    if name == "__version__":
        from importlib.metadata import version

        return version("filmstrip")
    if name not in registry.PUBLIC:
        raise AttributeError(f"module 'filmstrip' has no attribute {name!r}")
    value = families.load(registry.PUBLIC[name], name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *registry.PUBLIC, "__all__", "__version__"})
