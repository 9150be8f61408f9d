"""What the library warns of while it works for a job, as notes of that job."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
