"""Records: the closed list of classes that files of ours may hold objects of, each under a name that stays.

A class may move and be renamed; its name in files does not. Nothing else is ever built from a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from filmstrip.hints import fits, hints_of, words_of
from filmstrip.json_files import cut, shown

Kind = TypeVar("Kind", bound=type)
_KINDS: dict[str, type] = {}


def record(name: str) -> Callable[[Kind], Kind]:
    """Mark a dataclass, or a named tuple, as one whose objects may be written down under this name."""

    def register(kind: Kind) -> Kind:
        before = _KINDS.get(name, kind)  # of the same place, if a module is loaded again
        assert (before.__module__, before.__qualname__) == (kind.__module__, kind.__qualname__), (
            f"two are called {name}"
        )
        _KINDS[name] = kind
        return kind

    return register


def name_of(kind: type) -> str | None:
    """The name of a class in files; None if its objects can't be written down."""
    return next((name for name, one in _KINDS.items() if one is kind), None)


def values_of(item: Any) -> dict[str, Any]:
    """What an object of a record consists of."""
    return {name: getattr(item, name) for name in _defaults(type(item))}


def made(name: str, values: Mapping[str, Any]) -> Any:
    """The object of that record as it was written: its values are not checked again.

    Raises:
        ValueError: there is no such record, or it has no such values.
    """
    if name not in _KINDS:
        raise ValueError(f"it holds a {shown(name)}, which this version does not know")
    kind = _KINDS[name]
    defaults = _defaults(kind)
    if unknown := sorted(values.keys() - defaults.keys()):
        raise ValueError(f"its {name!r} has {cut(', '.join(unknown))}, which this version does not know")
    hints = hints_of(kind)
    for one, value in values.items():
        # Written without what has done its part, and with arrays as they were given.
        if value is not None and not hasattr(value, "tolist") and not fits(value, hints.get(one, Any)):
            raise ValueError(f"{one} of its {name!r} must be {words_of(hints[one])}, not {shown(value)}")
    whole = {**{one: default() for one, default in defaults.items() if one not in values}, **values}
    if issubclass(kind, tuple):
        return kind(**whole)
    item = object.__new__(kind)
    for one, value in whole.items():
        object.__setattr__(item, one, value)
    return item


def _defaults(kind: type) -> dict[str, Callable[[], Any]]:
    """The fields of a record, and what gives the value of one that a file lacks."""

    def lacking(name: str) -> Callable[[], Any]:
        def fail() -> Any:
            raise ValueError(f"it lacks {name}")

        return fail

    def default(name: str, value: Any, factory: Any) -> Callable[[], Any]:
        if factory is not dataclasses.MISSING:
            return factory
        return lacking(name) if value is dataclasses.MISSING else lambda: value

    if dataclasses.is_dataclass(kind):
        return {one.name: default(one.name, one.default, one.default_factory) for one in dataclasses.fields(kind)}
    fields: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    return {name: lacking(name) for name in fields}
