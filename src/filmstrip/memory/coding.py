"""In which portions an autoencoder works: a value, the ways that there are, and how users set the one they want.

An autoencoder takes a `Coding` with a call. Without one it works as its own `coding` says, which `enable_tiling` and
its kin set. Its method `decoding_ways` lists the ways to decode in falling order of the memory that they need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from operator import attrgetter
from typing import Any, ClassVar, Generic, TypeVar

from filmstrip.checks import LARGEST_COUNT, check_whole_number
from filmstrip.roles import uncompiled

Size = tuple[int, int]
Step = int | Fraction
Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Coding:
    """In which portions an autoencoder works; each one uses what applies to it."""

    is_tiled: bool = False
    """Whether pictures larger than a tile are coded in tiles."""
    tile: Size = (512, 512)
    """Height and width of a tile in pixels."""
    stride: tuple[Step, Step] = (448, 448)
    """Rows and columns from one tile to the next, in pixels; autoencoders round them to what they can do."""
    latent_tile: Size | None = None
    """Height and width of a tile in latents, where that is not what `tile` makes."""
    is_sliced: bool = False
    """Whether the videos or pictures of a batch are coded one after the other."""
    frames_at_once: int | None = None
    """How many frames a layer works on at a time, at its own frame rate; None: all of them."""
    chunk: Size = (8, 2)
    """Frames and latent frames of a chunk, where these belong to what a model computes."""
    frame_tile: Size = (16, 8)
    """Frames of a tile in time, and from one to the next."""
    is_framewise_encoding: bool = False
    """Whether longer videos are encoded in tiles in time."""
    is_framewise_decoding: bool = False
    """Whether longer videos are decoded in tiles in time."""

    def __post_init__(self) -> None:
        sizes: dict[str, tuple[int, ...]] = {
            "tile": self.tile,
            "latent_tile": self.latent_tile or (),
            "chunk": self.chunk,
        }
        sizes |= {"frame_tile": self.frame_tile, "frames_at_once": (self.frames_at_once or 1,)}
        for name, values in sizes.items():
            for value in values:
                check_whole_number(f"{name} of an autoencoder's work", value)
        for step in self.stride:
            if not 0 < step <= LARGEST_COUNT:
                raise ValueError(
                    f"tiles must lie more than 0 pixels apart, got {float(step):g}; let them overlap by less than a"
                    " whole tile."
                )

    @property
    def overlap(self) -> tuple[float, float]:
        """The share of a tile's height and of its width that overlaps the next."""
        height, width = (float(1 - Fraction(step) / size) for size, step in zip(self.tile, self.stride, strict=True))
        return height, width

    def with_overlap(self, overlap: tuple[float, float]) -> Coding:
        """The same with steps between tiles that leave such shares of them to overlap."""
        height, width = (size * (1 - Fraction(share)) for size, share in zip(self.tile, overlap, strict=True))
        return replace(self, stride=(height, width))

    def latents_of_tile(self, ratio: int) -> Size:
        """Height and width of a tile in latents, for so many pixels to a latent."""
        return self.latent_tile or (self.tile[0] // ratio, self.tile[1] // ratio)


# ---- what users set on an autoencoder --------------------------------------------------------------------------------


class Setting(Generic[Value]):
    """An attribute of an autoencoder that is a part of its `coding`."""

    def __init__(self, read: Callable[[Coding], Value], changed: Callable[[Coding, Value], Coding]) -> None:
        self._read, self._changed = read, changed

    def __get__(self, vae: CodesInPortions | None, _: Any = None) -> Value:
        if vae is None:
            raise AttributeError("how an autoencoder is set is an attribute of the object, not of its class")
        return self._read(vae.coding)

    def __set__(self, vae: CodesInPortions, value: Value) -> None:
        vae.coding = self._changed(vae.coding, value)


def whole_setting(name: str) -> Setting[Any]:
    """The attribute that is a field."""
    return Setting(attrgetter(name), lambda coding, value: replace(coding, **{name: value}))


def half_settings(name: str) -> tuple[Setting[Any], Setting[Any]]:
    """The attributes that are the two halves of a field."""

    def half(index: int) -> Setting[Any]:
        def changed(coding: Coding, value: Any) -> Coding:
            pair: Any = _with(getattr(coding, name), index, value)
            return replace(coding, **{name: pair})

        return Setting(lambda coding: getattr(coding, name)[index], changed)

    return half(0), half(1)


def tile_settings() -> tuple[Setting[int], Setting[int]]:
    """Height and width of a tile in pixels, whose share that overlaps stays as it is."""

    def side(index: int) -> Setting[int]:
        def changed(coding: Coding, value: int) -> Coding:
            return replace(coding, tile=_with(coding.tile, index, value)).with_overlap(coding.overlap)

        return Setting(lambda coding: coding.tile[index], changed)

    return side(0), side(1)


def overlap_settings() -> tuple[Setting[float], Setting[float]]:
    """The shares of a tile that overlap the next, along the height and along the width."""

    def side(index: int) -> Setting[float]:
        return Setting(
            lambda coding: coding.overlap[index],
            lambda coding, value: coding.with_overlap(_with(coding.overlap, index, value)),
        )

    return side(0), side(1)


def square(settings: tuple[Setting[Value], Setting[Value]]) -> Setting[Value]:
    """One attribute that sets both sides alike."""
    height, width = settings
    return Setting(height._read, lambda coding, value: width._changed(height._changed(coding, value), value))


def _with(pair: tuple[Value, Value], index: int, value: Value) -> tuple[Value, Value]:
    return (value, pair[1]) if index == 0 else (pair[0], value)


class CodesInPortions:
    """Mixed into an autoencoder: how it is set to divide its work, under the names that users know."""

    spatial_compression_ratio: int
    sets_latent_tiles: ClassVar[bool] = False
    """Whether the size of a tile in latents can be set apart from that in pixels."""

    @property
    def coding(self) -> Coding:
        """In which portions it works where a call says nothing else."""
        coding: Coding = self.__dict__["_coding"]
        return coding

    @coding.setter
    def coding(self, coding: Coding) -> None:
        if self.sets_latent_tiles:
            coding = replace(coding, latent_tile=coding.latents_of_tile(self.spatial_compression_ratio))
        self.__dict__["_coding"] = coding

    use_tiling, use_slicing = whole_setting("is_tiled"), whole_setting("is_sliced")

    def disable_tiling(self) -> None:
        """Code pictures undivided again."""
        self.use_tiling = False

    def enable_slicing(self) -> None:
        """Code the videos or the pictures of a batch one after the other, for less memory."""
        self.use_slicing = True

    def disable_slicing(self) -> None:
        """Code the videos of a batch together again, or as many of its pictures as is quick."""
        self.use_slicing = False

    def set_tiles(self, **settings: Any) -> None:
        """Have pictures coded in tiles; of these attributes, those that are not None are set first."""
        for name, value in settings.items():
            if value is not None:
                setattr(self, name, value)
        self.use_tiling = True

    @property
    def tile_size(self) -> Size | None:
        """Height and width in pixels of the tiles that are set, if any are."""
        return self.coding.tile if self.coding.is_tiled else None


def coding_settings(vae: Any, coding: Coding | None = None) -> dict[str, Any]:
    """A coding, or how an autoencoder is set, by the names of its attributes: plain values that a file can hold."""
    vae = uncompiled(vae)
    if not isinstance(vae, CodesInPortions):
        return {}
    coding = coding or vae.coding
    return {name: setting._read(coding) for name, setting in _settings(vae).items()}


def coding_of(vae: Any, settings: Mapping[str, Any]) -> Coding:
    """The coding that `coding_settings` told; names that this autoencoder does not have are left out."""
    vae = uncompiled(vae)
    coding: Coding = vae.coding
    for name, setting in _settings(vae).items():
        if name in settings:
            coding = setting._changed(coding, settings[name])
    return coding


def _settings(vae: CodesInPortions) -> dict[str, Setting[Any]]:
    # Sizes come before the shares of them.
    found = {name: one for kind in reversed(type(vae).__mro__) for name, one in vars(kind).items()}
    return {name: one for name, one in found.items() if isinstance(one, Setting)}


# ---- ways to decode --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """One way of decoding."""

    name: str
    """As it stands in a sentence: "whole", "in chunks of 8 frames", "in tiles of 256x256"."""
    coding: Coding | None = None
    """None: as the autoencoder is set."""
    tile: Size | None = None
    """Height and width of a tile in pixels; None leaves pictures undivided."""
    stride: Size | None = None
    """Rows and columns from one tile to the next."""

    @property
    def settings(self) -> dict[str, Any]:
        """The attribute of an autoencoder that sets it to this way."""
        return {} if self.coding is None else {"coding": self.coding}

    def work(self, height: int, width: int) -> float:
        """How many times each pixel of a picture is decoded, on average."""
        share = 1.0
        for extent, size, step in zip((height, width), self.tile or (), self.stride or (), strict=True):
            share *= sum(min(size, extent - start) for start in range(0, extent, step)) / extent
        return share

    def is_set(self, vae: Any) -> bool:
        """Whether the autoencoder is set to this way already."""
        return self.coding is None or bool(vae.coding == self.coding)


def decoding_ways(vae: Any) -> tuple[Way, ...]:
    """All ways in which an autoencoder can decode, each once, in falling order of the memory that they need."""
    return tuple(dict.fromkeys(vae.decoding_ways())) if hasattr(vae, "decoding_ways") else (Way("whole"),)


def smaller_ways(vae: Any, height: int, width: int, coding: Coding | None = None) -> tuple[Way, ...]:
    """The ways that need less memory than a coding, or than the one that the autoencoder is set to.

    Args:
        height, width: of the pictures that are decoded; tiles that hold all of one divide nothing.
    """
    ways = [way for way in decoding_ways(vae) if way.tile is None or way.tile[0] < height or way.tile[1] < width]
    coding = coding or getattr(vae, "coding", None)
    present = [index for index, way in enumerate(ways) if way.coding in (None, coding)]
    if present:
        return tuple(ways[present[-1] + 1 :])
    # Settings of the user's own: what is surely smaller are tiles that are smaller than theirs.
    rows, columns = coding.tile if coding is not None and coding.is_tiled else (height, width)
    return tuple(way for way in ways if way.tile is not None and way.tile[0] * way.tile[1] < rows * columns)


def tile_way(size: Size, stride: Size, coding: Coding) -> Way:
    """The way in tiles of so many pixels."""
    return Way(f"in tiles of {size[1]}x{size[0]}", coding, size, stride)
