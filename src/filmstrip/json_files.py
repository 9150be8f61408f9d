"""JSON that came from outside, read in one way: how large, how deep and how exact it may be is decided here alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

LARGEST_BYTES = 16 * 2**20
DEEPEST = 64
_MOST_DIGITS = 32  # tokenizers write 10**30 where they mean no limit
_REPAIR = "download or save it again."
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def shown(value: Any, longest: int = 60) -> str:
    """A value on one line of a sentence, cut off where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python writes, a list of very many levels
        text = f"a {type(value).__name__}"
    return cut(text.encode("utf-8", "backslashreplace").decode("utf-8"), longest)


def cut(text: str, longest: int = 60) -> str:
    """A text that is cut off where it is too long for a sentence."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def parse_json(text: str | bytes, *, largest: int = LARGEST_BYTES, deepest: int = DEEPEST) -> Any:
    """The value that a JSON text holds: every name once in its object, and no number that is none.

    Infinities are taken, since Python writes them and published files have them; NaN is not.

    Raises:
        ValueError: the rest of a sentence that begins with the name of the text, without a full stop.
    """
    if len(text) > largest:
        raise ValueError(f"has {len(text):,} bytes of JSON, where {largest:,} are the most that is read")
    try:
        content = text if isinstance(text, str) else text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not valid JSON (byte {error.start:,} is not UTF-8)") from None
    try:
        value = json.loads(content, object_pairs_hook=_object, parse_constant=_constant, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON ({error})") from None
    except RecursionError:
        raise ValueError(f"is nested more than {deepest} levels deep") from None
    _check_levels(value, deepest)
    if _SURROGATE.search(content):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("is not valid JSON (half of a character stands alone in it)") from None
    return value


def parse_object(text: str | bytes, *, largest: int = LARGEST_BYTES) -> dict[str, Any]:
    """`parse_json` of a text that must hold one object."""
    value = parse_json(text, largest=largest)
    if not isinstance(value, dict):
        raise ValueError(f"must hold one JSON object, got {'null' if value is None else type(value).__name__}")
    return value


def read_object(path: Path, *, largest: int = LARGEST_BYTES) -> dict[str, Any]:
    """The JSON object in a file, of which no more is read than may be in it.

    Raises:
        ValueError: it holds something else; says so in one sentence that names it.
        OSError: there is no such file, or it can't be read.
    """
    with path.open("rb") as file:
        text = file.read(largest + 1)
    if len(text) > largest:
        raise ValueError(f"{path} is larger than the {largest:,} bytes of JSON that are read at most; {_REPAIR}")
    try:
        return parse_object(text, largest=largest)
    except ValueError as error:
        raise ValueError(f"{path} {error}; {_REPAIR}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"has the entry {shown(twice)} twice in one object")
    return made


def _constant(name: str) -> float:
    if name == "NaN":
        raise ValueError("has NaN for a value, which is no number")
    return float(name.replace("Infinity", "inf"))


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"has a whole number of {len(digits.lstrip('-'))} digits, which nothing can be set to")
    return int(digits)


def _check_levels(value: Any, deepest: int) -> None:
    level = [value]
    for _ in range(deepest):
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise ValueError(f"is nested more than {deepest} levels deep")
