"""What goes wrong with checkpoints, and the names that their files may give."""

from __future__ import annotations

from collections.abc import Sequence

from filmstrip.json_files import cut

_LONGEST_NAME = 255  # bytes, as file systems have it
_PARTING = frozenset('/\\:*?"<>|')  # here or on another system


class CheckpointError(OSError, ValueError):
    """A checkpoint that is not there, not whole, not safe or not the model's; the message says what to do."""


def first_of(names: Sequence[str], limit: int = 4) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(cut(name, 100) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def reason_of(error: BaseException) -> str:
    """What an error of a library says, on one line and without a full stop."""
    if isinstance(error, (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, UnicodeError)):
        return "it is damaged"  # in words that only its programmer understands
    said = (isinstance(error, OSError) and error.strerror) or str(error)
    return cut(" ".join(said.split()), 200).removesuffix(".") or type(error).__name__


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
