"""Checks at the door: the value itself if it makes sense, else one sentence that says what would."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sized
from typing import Any, TypeVar

from filmstrip.json_files import shown

Value = TypeVar("Value")
LARGEST_COUNT = 100_000
"""Of steps, frames, videos, pixels along a side: beyond it a run would never end, or end in a library's panic."""


def check_whole_number(name: str, value: Any, at_least: int = 1) -> int:
    """The value, if it is a whole number that is large enough."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} must be a whole number of at least {at_least}, got {shown(value)}.")
    if value > LARGEST_COUNT:
        raise ValueError(f"{name} can be {LARGEST_COUNT:,} at most, got {shown(value)}.")
    return value


def check_share(name: str, value: float) -> float:
    """The value, if it lies between 0 and 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}.")
    return value


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """The value, if it is one of the choices."""
    if value not in choices:
        similar = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" Did you mean {similar[0]!r}?" if similar else ""
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}.{hint}")
    return value


def check_count(name: str, given: Sized, num_prompts: int) -> None:
    """See that there is one of something, or one for each prompt."""
    if len(given) not in (1, num_prompts):
        raise ValueError(f"{len(given)} {name} were given for {num_prompts} prompts; give one, or one for each.")


def check_one_of(what: str, **given: Any) -> None:
    """See that one of two arguments was given, from either of which something starts."""
    (first, one), (second, other) = given.items()
    if (one is None) == (other is None):
        number = "neither" if one is None else "both"
        raise ValueError(f"{what} starts from {first} or from {second}, {number} given; pass one of them.")


def one_each(name: str, value: Any, count: int, of: str) -> list[Any]:
    """An argument that has one value, or one for each of so many things, as one for each."""
    if not isinstance(value, (list, tuple)) and not getattr(value, "ndim", 0):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} values for {count} {of}; give one, or one for each.")
    return list(value)


def known(value: Value | None) -> Value:
    """A value that a check before has seen to."""
    assert value is not None, "arguments are completed before they are used"
    return value
