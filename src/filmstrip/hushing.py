"""Silence for what torchao says while it is imported, here or by transformers: of kernels and changes of no concern."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hushed() -> Iterator[None]:
    """Silence as long as this lasts."""
    library, trees = logging.getLogger("torchao"), logging.getLogger("torch.utils._pytree")
    level = library.level
    library.setLevel(logging.ERROR)  # for its modules, too

    def is_grave(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    trees.addFilter(is_grave)  # whose level torch sets anew meanwhile
    try:
        yield
    finally:
        library.setLevel(level)
        trees.removeFilter(is_grave)
