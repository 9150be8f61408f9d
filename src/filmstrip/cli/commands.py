"""The group of commands: where every error becomes one sentence and an exit status."""

from __future__ import annotations

import contextlib
import errno
import inspect
import json
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

from filmstrip.json_files import cut

_ONE_OF_EACH = ("image", "video", "control_video")
FAILURE, BAD_INPUT, INTERRUPTED = 1, 2, 130
# Errors about a path that was given; any other trouble with files (a full disk) is a failure.
_PATH_ERRORS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
_PATH_NUMBERS = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}  # of paths that no system has


@contextlib.contextmanager
def orderly_ends() -> Iterator[list[int]]:
    """Let a closed terminal and a stopped service end the work as Ctrl-C does; yields the signals that have come."""
    caught: list[int] = []

    def end(number: int, _: object) -> None:
        caught.append(number)
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()  # others can set no handlers
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if is_main and hasattr(signal, name)]
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores one
    before = {number: signal.signal(number, end) for number in heeded}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Command(TyperCommand):
    """A command in which of settings the last one counts, and no picture or clip is dropped for another."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of a command line."""
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for option, times in Counter(given).items():
            if times > 1 and option.name in _ONE_OF_EACH:
                raise ValueError(f"{option.opts[-1]} was given {times} times; give it once.")
        return super().parse_args(ctx, args)


def also_takes(command: Callable[..., None]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take the options of another one, too, but those that it has itself."""

    def extended(function: Callable[..., None]) -> Callable[..., None]:
        own, more = (inspect.signature(one, eval_str=True).parameters for one in (function, command))
        named = {name: one for name, one in own.items() if one.kind is not inspect.Parameter.VAR_KEYWORD}
        both = [*named.values(), *(one for name, one in more.items() if name not in named)]
        function.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
        function.__annotations__ = {one.name: one.annotation for one in both}
        return function

    return extended


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
        extra |= {"windows_expand_args": windows_expand_args}
        with orderly_ends() as caught:
            try:
                result = super().main(words, prog_name or "filmstrip", complete_var, False, **extra)
                status = result if isinstance(result, int) else 0
            except KeyboardInterrupt:
                status = INTERRUPTED
            except Exception as error:
                if "--debug" in words:
                    traceback.print_exc()
                status, sentence = status_of(error)
                sentence += _about_dashes(error, words)
                print(f"Error: {sentence}", file=sys.stderr)
        if status == INTERRUPTED:
            print("Interrupted; no unfinished video is left.", file=sys.stderr)
            status = 128 + caught[0] if caught else INTERRUPTED
        if standalone_mode:
            sys.exit(status)
        return status


def _about_dashes(error: Exception, words: Sequence[str]) -> str:
    """What to do with a prompt or a file that was taken for an option, as it may have been; else nothing."""
    name = getattr(error, "option_name", "")
    taken = next((word for word in words if name and word.startswith(name)), None)
    if taken is None or not hasattr(error, "possibilities") or (error.possibilities and " " not in taken):
        return ""
    said = json.dumps(taken, ensure_ascii=False)
    return f"; what begins with a dash and is no option goes to the end, behind two dashes: filmstrip ... -- {said}"


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
