"""Where files and folders of this machine lie, under names that can be shared.

A video says what it was made from. A path would tell everybody the names of its maker's folders, so it holds
"local:NUMBER/NAME": NAME is the last part of the path, and NUMBER a random one under which this machine has written
down the whole. Elsewhere, what has that name is looked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from filmstrip.files import partial_path, remove

_SHARED = re.compile(r"local:(?P<number>[0-9a-f]{8})/(?P<name>[^/\\\0]+)")
_MOST = 2000  # of the paths that are written down; the oldest are forgotten


def shared_name(path: str | Path) -> str:
    """The name of an existing file or folder that says nothing of the others."""
    whole = str(Path(path).absolute())
    known = _known()
    number = next((number for number, place in known.items() if place == whole), None)
    if number is None:
        number = secrets.token_hex(4)
        _write(dict([*known.items(), (number, whole)][-_MOST:]))
    return f"local:{number}/{Path(whole).name or 'root'}"


def place_of(name: str, near: Iterable[Path] = ()) -> str:
    """The path that a shared name stands for: where this machine had it, else of that name here or in a folder near.

    Any other text is itself, and a name of which nothing is found its last part.
    """
    found = _SHARED.fullmatch(name)
    if found is None:
        return name
    before = _known().get(found["number"])
    if before is not None and Path(before).exists() and Path(before).name == found["name"]:
        return before
    places = [folder / found["name"] for folder in (Path(), *near)]
    there = next((place for place in places if place.exists()), None)
    # A folder of this name, and not a repository or a model that comes with the package.
    return f".{os.sep}{found['name']}" if there is None else str(there.absolute())


def _register() -> Path:
    state = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_STATE_HOME")
    with contextlib.suppress(RuntimeError):  # nobody's home
        return Path(state or Path.home() / ".local" / "state") / "filmstrip" / "places.json"
    return Path(os.devnull)


def _known() -> dict[str, str]:
    """Number to path, in the order in which they came."""
    try:
        content = json.loads(_register().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {number: place for number, place in content.items() if isinstance(place, str)}


def _write(known: dict[str, str]) -> None:
    """Write them down for this user alone, where that is possible: without, names are found by themselves only."""
    register = _register()
    partial = partial_path(register)
    with contextlib.suppress(OSError):
        register.parent.mkdir(parents=True, exist_ok=True)
        partial.touch(mode=0o600, exist_ok=False)
        partial.write_text(json.dumps(known, ensure_ascii=False, indent=1), encoding="utf-8")
        partial.replace(register)
    remove(partial)
