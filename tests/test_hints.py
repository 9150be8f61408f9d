"""Values held against the types that hints say."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pytest

from filmstrip.hints import fits, words_of

FITTING = [
    (3, int),
    (3, float),
    (None, int | None),
    ([1, 2], Sequence[int]),
    ((1, 2), Sequence[int]),
    ([1, 2.5], list[float]),
    ([1, "a"], tuple[int, str]),
    ([1, 2, 3], tuple[int, ...]),
    ([[1], [2]], Sequence[Sequence[int]]),
    (2, int | Sequence[int]),
    ("a", Literal["a", "b"]),
    ({"a": 1}, Mapping[str, int]),
    (print, Callable[..., Any]),
    (object(), Any),
]
MISFITTING = [
    (True, int),
    (True, float),
    (1, bool),
    (2.0, int),
    ("3", int),
    (math.inf, float),
    (math.nan, float),
    (10**400, float),
    (None, int),
    ("ab", Sequence[str]),
    ([1, "a"], Sequence[int]),
    ([1], tuple[int, str]),
    ({}, int | Sequence[int]),
    (["a"], Literal["a", "b"]),
    (True, Literal[1, 2]),
    ({1: 1}, Mapping[str, int]),
    ([1, 2], Mapping[str, int]),
    (3, Callable[..., Any]),
]


@pytest.mark.parametrize(("value", "hint"), FITTING)
def test_a_value_of_the_type_fits(value, hint):
    assert fits(value, hint)


@pytest.mark.parametrize(("value", "hint"), MISFITTING)
def test_a_value_of_another_type_does_not(value, hint):
    assert not fits(value, hint)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"),
        (float | None, "a number"),
        (int | Sequence[int], "a whole number or a list (in JSON) of which each is a whole number"),
        (Literal["a", "b"], "one of 'a', 'b'"),
        (Literal["a"] | None, "'a'"),
        (type(None), "null"),
    ],
)
def test_a_type_is_told_in_words(hint, words):
    assert words_of(hint) == words
