"""How far downloads from the hub are, for whoever wants to show it: the hub's client then draws nothing itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_SECONDS_BETWEEN = 0.1


@dataclass(frozen=True)
class Download:
    """So many bytes of what is fetched are here."""

    what: str
    """A component, or the repository."""
    done_bytes: int
    total_bytes: int
    """0 where it is not known, or not yet."""
    seconds: float
    """Since its fetching began."""


TellDownload = Callable[[Download], None]
_LISTENER: ContextVar[TellDownload | None] = ContextVar("listener", default=None)


@contextmanager
def told_downloads(tell: TellDownload) -> Iterator[None]:
    """TellDownload how far downloads that this thread asks for are, as long as this lasts.

    Args:
        tell: is called from the threads that fetch, one at a time; what it raises ends the download.
    """
    token = _LISTENER.set(tell)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def is_told() -> bool:
    """Whether somebody wants to know."""
    return _LISTENER.get() is not None


def downloaded(what: str, download: Callable[..., Any]) -> Any:
    """What the hub's client gives, which tells meanwhile instead of drawing; just that if nobody listens.

    The client waits for its threads, whatever comes in between: so another thread waits for it, and an interrupted one
    has them end with the next bytes.

    Args:
        download: takes the client's `tqdm_class`, if that is given.
    """
    tell = _LISTENER.get()
    if tell is None:
        return download()
    account = _Account(what, tell)
    given: list[Any] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            given.append(download(tqdm_class=_bar_class(account)))
        except BaseException as error:  # told by the thread that waits
            failed.append(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while worker.is_alive():
            worker.join(0.1)  # without a limit, some systems let no signal through
    except BaseException:
        account.is_stopped = True
        raise
    if failed:
        raise failed[0]
    return given[0]


class _StoppedError(Exception):
    """Nobody waits for the download any more."""


class _Account:
    """The bars of one download: there may be one for bytes that arrive and one for bytes that are written."""

    def __init__(self, what: str, tell: TellDownload) -> None:
        self._what, self._tell = what, tell
        self._bars: list[Any] = []
        self._begin = self._told_at = time.monotonic()
        self._told: tuple[int, int] = (0, 0)
        self._lock = threading.Lock()
        self.is_stopped = False

    def add(self, bar: Any) -> None:
        self._bars.append(bar)

    def advance(self, bar: Any, count: float | None) -> None:
        if self.is_stopped:
            raise _StoppedError
        with self._lock:
            bar.n += count or 0
            totals = [int(one.total) for one in self._bars if one.total]
            total = min(totals, default=0)
            done = int(max(one.n for one in self._bars))
            now = time.monotonic()
            state = (min(done, total) if total else done, total)
            is_due = now - self._told_at >= _SECONDS_BETWEEN or state[0] == total
            if is_due and state != self._told and state[0] > 0:
                self._told, self._told_at = state, now
                self._tell(Download(self._what, *state, now - self._begin))


def _bar_class(account: _Account) -> type:
    from tqdm import tqdm

    class Telling(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        """A bar that is not drawn; a disabled one of tqdm has no more than its numbers."""

        monitor_interval = 0  # which would start a thread

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            self.total = kwargs.get("total")
            self._is_of_bytes = kwargs.get("unit") == "B"
            if self._is_of_bytes:
                account.add(self)

        def update(self, n: float | None = 1) -> None:
            if self._is_of_bytes:
                account.advance(self, n)

    Telling.set_lock(threading.RLock())  # tqdm's own is shared with whatever else draws
    return Telling
