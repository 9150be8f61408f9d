"""What goes wrong with checkpoints, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from filmstrip.json_files import cut


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
