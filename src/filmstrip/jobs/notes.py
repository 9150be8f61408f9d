"""What the library warns of while it works for a job, as notes of that job, and what it fetches, as its events."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filmstrip.jobs.events import Fetched, Noted, Tell


@contextmanager
def library_notes(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell what the library warns of in this thread as long as this lasts, except what a run tells itself.

    Each sentence is told once: a checkpoint may be opened twice, for its outline and for its weights.
    """
    from filmstrip.generation.events import TOLD

    thread = threading.get_ident()

    def is_ours(record: logging.LogRecord) -> bool:
        return record.thread == thread and not TOLD.items() <= vars(record).items()

    handler = _Notes(tell)
    handler.addFilter(is_ours)
    logger = logging.getLogger("filmstrip")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def library_events(tell: Tell) -> Iterator[None]:
    """Tell what the library warns of, and how far its downloads are, as events of a job."""
    from filmstrip.checkpoints.downloads import Download, told_downloads

    def fetched(download: Download) -> None:
        tell(Fetched(download.what, download.done_bytes, download.total_bytes, download.seconds))

    with library_notes(lambda sentence: tell(Noted(sentence))), told_downloads(fetched):
        yield


class _Notes(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if sentence not in self._told:
            self._told.add(sentence)
            self._tell(sentence)
