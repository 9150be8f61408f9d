"""How pictures and clips become as large as the video, and the video as wide as they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from filmstrip.jobs.calls import SIDES, is_clip
from filmstrip.jobs.inputs import Input
from filmstrip.json_files import cut

if TYPE_CHECKING:
    from PIL.Image import Image

_ASPECT_TOLERANCE = 0.02
_WIDEST = 3.0  # times as wide as high, or as high as wide: what no model has seen is cropped instead


def size_by_inputs(
    inputs: Mapping[str, Input], given: Iterable[str], defaults: Mapping[str, object], multiple: int | None
) -> tuple[dict[str, int], str] | None:
    """A size with the proportions of what is given and about as many pixels as usual, and the sentence about it.

    None where a size is asked for, or the usual one fits.

    Args:
        given: names of the arguments that are asked for.
        multiple: what the model's sides are multiples of; None where it has no such rule.
    """
    height, width = (defaults.get(side) for side in SIDES)
    if not inputs or multiple is None or {*SIDES} & {*given}:
        return None
    if not (isinstance(height, int) and isinstance(width, int)):
        return None
    name, one = next(iter(inputs.items()))
    own_width, own_height = one.size
    wanted = min(max(own_width / own_height, 1 / _WIDEST), _WIDEST)
    if abs(wanted * height / width - 1) <= _ASPECT_TOLERANCE:
        return None
    pixels = width * height

    def near(side: float) -> set[int]:
        return {max(1, count) * multiple for count in (math.floor(side / multiple), math.ceil(side / multiple))}

    def away(sides: tuple[int, int]) -> float:
        # The proportions count twice, since what they miss is cut off.
        return 2 * abs(math.log(sides[0] / sides[1] / wanted)) + abs(math.log(sides[0] * sides[1] / pixels))

    widths, heights = near(math.sqrt(pixels * wanted)), near(math.sqrt(pixels / wanted))
    best_width, best_height = min(itertools.product(sorted(widths), sorted(heights)), key=away)
    if (best_width, best_height) == (width, height):
        return None
    return (
        {"height": best_height, "width": best_width},
        f"The video is {best_width}x{best_height}, by the proportions of the {_words(name)} "
        f"({own_width}x{own_height}); --size sets another, such as the usual {width}x{height}.",
    )


def framed_pictures(inputs: Mapping[str, Input], values: Mapping[str, object]) -> dict[str, Image | list[Image]]:
    """What the call is given: pictures of the video's proportions, unless they are to be stretched.

    Edges are found in pictures of the video's size, since lines fade when they shrink, and before borders are added.

    Args:
        values: arguments of the call with its defaults, the size among them if the model has a usual one.
    """
    from PIL.Image import Resampling

    from filmstrip.media import canny_edges
    from filmstrip.media.framing import bordered, scaled

    height, width = (values.get(side) for side in SIDES)
    found: dict[str, Image | list[Image]] = {}
    for name, one in inputs.items():
        pictures = one.pictures
        if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
            check_held_by_machine(len(pictures), width, height)
            if one.is_edges:
                inner = [scaled(picture, width, height, one.fit, Resampling.BICUBIC) for picture in pictures]
                pictures = [bordered(picture, width, height) for picture in canny_edges(inner)]
            elif one.fit != "stretch" and one.size[0] * height != one.size[1] * width:
                pictures = [bordered(scaled(picture, width, height, one.fit), width, height) for picture in pictures]
        found[name] = pictures if is_clip(name) else pictures[0]
    return found


def check_held_by_machine(count: int, width: int, height: int) -> None:
    """See that this machine could hold so many pictures of a size.

    Raises:
        ValueError: it could not; says how much they would take.
    """
    from filmstrip.devices import physical_memory

    memory, needed = physical_memory(), 3 * count * width * height
    if memory is not None and needed > memory:
        raise ValueError(
            f"{count} pictures of {cut(f'{width}x{height}')} take {cut(f'{needed // 10**9:,}')} GB, and this machine"
            f" has {memory // 10**9:,}; ask for a smaller --size."
        )


def framing_notes(inputs: Mapping[str, Input], width: int, height: int) -> list[str]:
    """What happens to pictures of other proportions than the video's."""
    done = {
        "crop": "is cropped to the proportions of {made}, evenly on two sides; --fit pad or stretch keeps all of it",
        "pad": "gets black borders to be {made}; --fit crop or --size leaves none",
        "stretch": "is stretched to {made}; --size sets another",
    }
    sentences = []
    for name, one in inputs.items():
        own_width, own_height = one.size
        if abs(own_width / own_height / (width / height) - 1) > _ASPECT_TOLERANCE:
            what = done[one.fit].format(made=f"{width}x{height}")
            sentences.append(f"The {_words(name)} is {own_width}x{own_height} and {what}.")
    return sentences


def _words(name: str) -> str:
    return name.replace("_", " ")
