"""What goes wrong with checkpoints."""

from __future__ import annotations

from collections.abc import Sequence


class CheckpointError(OSError, ValueError):
    """A checkpoint that is not there, not whole, not safe or not the model's; the message says what to do."""


def first_of(names: Sequence[str], limit: int = 4) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
