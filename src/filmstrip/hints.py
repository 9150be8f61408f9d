"""Whether a value from outside is of the type that a hint says, and that type in words."""

from __future__ import annotations

import collections.abc
import inspect
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}
_UNIONS = (Union, types.UnionType)


def hints_of(function: Any) -> dict[str, Any]:
    """Parameter to hint of a function or the fields of a class; those that can't be found out take anything."""
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):  # of a name that is imported for type checkers only
        return {}


def signature_hints(kind: type) -> dict[str, tuple[Any, Any]]:
    """Argument to hint and default of a class that is called by name; `inspect.Parameter.empty` if it has none."""
    found = hints_of(getattr(kind, "__init__"))  # noqa: B009  (mypy forbids the attribute)
    parameters = inspect.signature(kind).parameters.values()
    return {
        one.name: (found.get(one.name, Any if one.annotation is one.empty else one.annotation), one.default)
        for one in parameters
    }


def members(hint: Any) -> tuple[Any, ...]:
    """The types that a hint allows, one of which a value must have."""
    return get_args(hint) if get_origin(hint) in _UNIONS else (hint,)


def is_sequence(hint: Any) -> bool:
    """Whether a hint is of several values in a row."""
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Sequence)


def is_plain(hint: Any) -> bool:
    """Whether some value other than null can be written in JSON for it."""
    return any(
        (part in _WORDS and part is not type(None)) or get_origin(part) is Literal or is_sequence(part)
        for part in members(hint)
    )


def is_finite(value: Any) -> bool:
    """Whether a value is a number that a float can be."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def numbers_in(value: Any) -> Iterator[float]:
    """All numbers of a value and of the lists in it."""
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from numbers_in(one)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that a hint says. A whole number is a number, a list is a tuple; nothing else."""
    return any(_fits_one(value, part) for part in members(hint))


def _fits_one(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if isinstance(hint, TypeVar) and hint.__bound__ is not None:
        return fits(value, hint.__bound__)
    if hint is Any or isinstance(hint, (TypeVar, str)):
        return True
    if hint is float:
        return is_finite(value)
    if hint in _WORDS:
        return type(value) is hint or (hint is str and isinstance(value, str))
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return callable(value)
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        is_row = isinstance(value, (list, tuple)) and len(value) == len(inner)
        return is_row and all(map(fits, value, inner))
    if is_sequence(hint):
        return isinstance(value, (list, tuple)) and all(fits(one, inner[0]) for one in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    kind = origin if origin is not None else hint
    return isinstance(value, kind) if isinstance(kind, type) else True


def words_of(hint: Any) -> str:
    """What a hint allows, in words; null is not worth one."""
    said: list[str] = []
    for part in members(hint):
        inner = get_args(part)
        if part in _WORDS:
            said.append(_WORDS[part])
        elif get_origin(part) is Literal:
            said.append("one of " + ", ".join(map(repr, inner)) if len(inner) > 1 else repr(inner[0]))
        elif get_origin(part) is tuple and inner[-1] is not Ellipsis:
            said.append(f"a list (in JSON) of {len(inner)}: " + ", ".join(map(words_of, inner)))
        elif isinstance(get_origin(part), type) and issubclass(get_origin(part), Mapping):
            said.append("an object (in JSON)")
        elif is_sequence(part):
            said.append("a list (in JSON) of which each is " + words_of(inner[0]))
    if len(said) > 1 and "null" in said:
        said.remove("null")
    return " or ".join(dict.fromkeys(said)) or "another kind of value"
