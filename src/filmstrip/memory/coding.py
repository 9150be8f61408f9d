"""The ways in which an autoencoder can divide its decoding, from the whole to the smallest parts.

An autoencoder says itself how it can be divided: its method `decoding_ways` lists the ways in falling order of the
memory that they need, and its `tile_size` is the tile that it is set to, None where it is set to none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Size = tuple[int, int]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Way:
    """One way of decoding: values of an autoencoder's attributes."""

    name: str
    """As it stands in a sentence: "whole", "in chunks of 8 frames", "in tiles of 256x256"."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    tile: Size | None = None
    """Height and width of a tile in pixels; None leaves pictures undivided."""
    stride: Size | None = None
    """Rows and columns from one tile to the next."""

    def work(self, height: int, width: int) -> float:
        """How many times each pixel of a picture is decoded, on average."""
        share = 1.0
        for extent, size, step in zip((height, width), self.tile or (), self.stride or (), strict=True):
            share *= sum(min(size, extent - start) for start in range(0, extent, step)) / extent
        return share

    @contextlib.contextmanager
    def applied(self, vae: Any) -> Iterator[None]:
        """The autoencoder set to this way, and back to what it was set to before."""
        before = {name: getattr(vae, name) for name in self.settings}
        try:
            for name, value in self.settings.items():
                setattr(vae, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(vae, name, value)

    def while_working(self, vae: Any, items: Iterator[Item]) -> Iterator[Item]:
        """Yield what an iterator yields, with the autoencoder set to this way only while it is made."""
        end = object()
        while True:
            with self.applied(vae):
                item = next(items, end)
            if item is end:
                return
            yield item  # type: ignore[misc]

    def is_set(self, vae: Any) -> bool:
        """Whether the autoencoder is set to this way already."""
        return all(getattr(vae, name) == value for name, value in self.settings.items())


def decoding_ways(vae: Any) -> tuple[Way, ...]:
    """All ways in which an autoencoder can decode, in falling order of the memory that they need."""
    return tuple(vae.decoding_ways()) if hasattr(vae, "decoding_ways") else (Way("whole"),)


def smaller_ways(vae: Any, height: int, width: int) -> tuple[Way, ...]:
    """The ways that need less memory than the one that the autoencoder is set to.

    Args:
        height, width: of the pictures that are decoded; tiles that hold all of one divide nothing.
    """
    ways = [way for way in decoding_ways(vae) if way.tile is None or way.tile[0] < height or way.tile[1] < width]
    present = [index for index, way in enumerate(ways) if way.is_set(vae)]
    if present:
        return tuple(ways[present[-1] + 1 :])
    # Settings of the user's own: what is surely smaller are tiles that are smaller than theirs.
    rows, columns = getattr(vae, "tile_size", None) or (height, width)
    return tuple(way for way in ways if way.tile is not None and way.tile[0] * way.tile[1] < rows * columns)


def tile_way(size: Size, stride: Size, settings: Mapping[str, Any]) -> Way:
    """The way in tiles of so many pixels."""
    return Way(f"in tiles of {size[1]}x{size[0]}", settings, size, stride)


def kept_way(vae: Any, settings: Mapping[str, Any]) -> Way:
    """The way that `coding_settings` told, as far as this autoencoder has such settings."""
    return Way("as it was", {name: value for name, value in settings.items() if hasattr(vae, name)})


def coding_settings(vae: Any) -> dict[str, Any]:
    """How an autoencoder is set to divide its work, among its other plain attributes."""
    kinds = (bool, int, float, type(None))
    return {
        name: value
        for name, value in vars(vae).items()
        if type(value) in kinds and name != "training" and not name.startswith("_")
    }
