"""Files that appear whole or not at all, and take the place of nothing that nobody named.

What is written lies under a hidden name beside its target until it is whole. That name tells which process of which
machine writes it, so that what a killed one has left behind is known for that, and removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

_LONGEST_BYTES = 160  # of the target's name in a hidden one; systems take 255 for the whole
_LONGEST_NAME = 255  # bytes, as file systems have it
_PARTING = frozenset('/\\:*?"<>|')  # here or on another system
_PART = re.compile(r"\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.part")


def partial_path(target: Path) -> Path:
    """A fresh name beside a target, for what is renamed to it once whole."""
    return target.with_name(f"{_hidden(target)}.{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part")


def remove_leftovers(target: Path) -> None:
    """Remove what processes that were killed have left of a target under its hidden names."""
    hidden = _hidden(target)
    with contextlib.suppress(OSError):  # the folder is not there, or not ours to tidy
        for path in [*target.parent.iterdir()]:
            found = _PART.fullmatch(path.name, len(hidden)) if path.name.startswith(hidden) else None
            if found and found["machine"] == _machine() and not _is_running(int(found["process"])):
                remove(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there and can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def settle(partial: Path, target: Path, *, may_replace: bool) -> Path:
    """Give what is whole its name, and return that: the target's, or one like it if that is taken.

    Two processes that settle at one time get two names.

    Args:
        may_replace: whether to take the place of a file that is there, or of a folder with nothing in it.
    """
    if may_replace:
        _replace_folder(partial, target) if partial.is_dir() else partial.replace(target)
        return target
    return next(name for name in names_like(target) if _moved(partial, name))


def unused(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that does not exist."""
    return next(name for name in names_like(path) if not os.path.lexists(name))


def names_like(path: Path) -> Iterator[Path]:
    """The path, then path-2, path-3, and so on."""
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1


def is_single_part(name: str) -> bool:
    """Whether a name that stands in a file is the name of one file or folder, inside of whatever it is put behind.

    Names that mean something else on another system are none: of a drive, of a stream, with a trailing dot.
    """
    return (
        name.isprintable()
        and not _PARTING.intersection(name)
        and name == name.rstrip(" .")
        and 0 < len(name.encode("utf-8", "replace")) <= _LONGEST_NAME
    )


def check_space(folder: Path, nbytes: int, what: str) -> None:
    """See that a disk has room, as far as that can be known.

    Raises:
        ValueError: it has less.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if free < nbytes:
        raise ValueError(
            f"{folder} has {free / 1e6:,.0f} MB left, and {what} may need {nbytes / 1e6:,.0f} MB; free some, or write "
            "elsewhere."
        )


def _moved(partial: Path, target: Path) -> bool:
    """Rename if nothing has that name, but for a folder with nothing in it; whether it did."""
    if partial.is_dir():
        try:
            _replace_folder(partial, target)
        except OSError:
            if os.path.lexists(target):
                return False
            raise
        return True
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError:  # no second names on this disk: the name is taken first
        try:
            target.touch(exist_ok=False)
        except FileExistsError:
            return False
        partial.replace(target)
        return True
    partial.unlink()
    return True


def _replace_folder(partial: Path, target: Path) -> None:
    if os.name == "nt" and target.is_dir():
        target.rmdir()  # not every system renames over a folder
    partial.replace(target)


def _hidden(target: Path) -> str:
    name = target.name.encode()[:_LONGEST_BYTES].decode(errors="ignore")
    return f".{name}"


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return True  # where asking could end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
