"""Versions of what is installed, and of this package where it is not: run from its sources, without metadata."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

FROM_SOURCES = "0+sources"


def version_of(name: str) -> str:
    """The version of a package that is there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return FROM_SOURCES
