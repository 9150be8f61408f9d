"""The group of commands: where every error becomes one sentence and an exit status."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

from filmstrip.json_files import cut

FAILURE, BAD_INPUT, INTERRUPTED = 1, 2, 130
# Errors about a path that was given; any other trouble with files (a full disk) is a failure.
_PATH_ERRORS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
_PATH_NUMBERS = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}  # of paths that no system has


class Commands(TyperGroup):
    """Commands that end with a status and without a traceback, unless --debug is given."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line; raises SystemExit with its status, or returns that if not standalone."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            result = super().main(
                words, prog_name or "filmstrip", complete_var, False, windows_expand_args=windows_expand_args, **extra
            )
            status = result if isinstance(result, int) else 0
        except KeyboardInterrupt:
            status = INTERRUPTED
        except Exception as error:
            if "--debug" in words:
                traceback.print_exc()
            status, sentence = status_of(error)
            print(f"Error: {sentence}", file=sys.stderr)
        if status == INTERRUPTED:
            print("Interrupted; no unfinished video is left.", file=sys.stderr)
        if standalone_mode:
            sys.exit(status)
        return status


def status_of(error: Exception) -> tuple[int, str]:
    """The exit status that an error stands for, and one line that tells it."""
    if hasattr(error, "format_message"):  # a mistake in the command line itself
        return getattr(error, "exit_code", BAD_INPUT), " ".join(error.format_message().split())
    text = " ".join(str(error).split())
    is_path = isinstance(error, _PATH_ERRORS) or (isinstance(error, OSError) and error.errno in _PATH_NUMBERS)
    if is_path and error.strerror and error.filename is not None:  # type: ignore[attr-defined]
        return BAD_INPUT, f"{cut(str(error.filename), 200)}: {error.strerror}."  # type: ignore[attr-defined]
    if isinstance(error, (ValueError, *_PATH_ERRORS)):
        return BAD_INPUT, text
    if isinstance(error, FloatingPointError):
        return FAILURE, text
    first_line = (str(error).strip().splitlines() or ["no more is known"])[0]
    return FAILURE, f"{type(error).__name__}: {first_line} (--debug shows where)"
