"""What would fit where a request does not: fewer frames, or a smaller size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from filmstrip.generation.arguments import facts_of
from filmstrip.generation.request import Request
from filmstrip.generation.resolve import Rules

_TRIES, _LESS, _MARGIN = 3, 0.7, 0.97
Fits = Callable[[Request[Any]], bool]


def what_fits(pipeline: Any, request: Request[Any], share: float, fits: Fits) -> list[str]:
    """What to make instead, in words: "97 frames", "480x352"; nothing if neither fewer frames nor less size would do.

    Args:
        share: of the request's work, what there is memory for.
        fits: whether a request keeps within the memory.
    """
    if share <= 0:
        return []
    rules: Rules = pipeline.rules
    found = (
        _first(pipeline, request, changes, fits)
        for changes in (_shorter(request, rules, share), _lesser(request, rules, share))
    )
    return [words for words in found if words]


def _first(pipeline: Any, request: Request[Any], tries: Iterator[tuple[str, dict[str, int]]], fits: Fits) -> str:
    for words, changes in tries:
        try:
            changed = pipeline.check(replace(request.arguments, **changes))
        except ValueError:  # what else was asked for needs that size or length
            continue
        if fits(changed):
            return words
    return ""


def _shares(share: float) -> list[float]:
    return [share * _MARGIN * _LESS**number for number in range(_TRIES)]


def _shorter(request: Request[Any], rules: Rules, share: float) -> Iterator[tuple[str, dict[str, int]]]:
    names = _named(request, "length")
    before = request.size.num_frames
    for one in _shares(share):
        count = max(1, math.floor(before * one))
        while count > 1 and rules.generated(count) != count:
            count -= 1
        if not names or count >= before:
            return
        yield f"{count} frame{'' if count == 1 else 's'}", dict.fromkeys(names, count)
        if count == 1:
            return


def _lesser(request: Request[Any], rules: Rules, share: float) -> Iterator[tuple[str, dict[str, int]]]:
    size, multiple = request.size, rules.size_multiple
    names = _named(request, "side")
    before: Mapping[str, int] = {name: getattr(size, name) for name in names if hasattr(size, name)}
    for one in _shares(share):
        sides = {
            name: max(multiple, int(side * math.sqrt(one)) // multiple * multiple) for name, side in before.items()
        }
        if not sides or sides == before:
            return
        yield f"{sides.get('width', size.width)}x{sides.get('height', size.height)}", sides


def _named(request: Request[Any], role: str) -> list[str]:
    return [name for name, fact in facts_of(type(request.arguments)).items() if fact.role == role]
