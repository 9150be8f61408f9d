"""What a run shows while it works, on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from filmstrip.generation import Event

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
_NEXT = {"load": "encode", "encode": "denoise", "denoise": "decode"}
_PARTS = 4  # lines for one stage, where there are no bars


class Progress:
    """Shows nothing; the other ways of showing progress build on it."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""

    def begin(self, title: str) -> None:
        """A video begins; its title tells it from others of the same run."""

    def update(self, stage: str, step: int, total: int, seconds: float) -> None:
        """So many steps of a stage are done, at that time since the video began."""

    def say(self, facts: Iterable[tuple[str, str]]) -> None:
        """Facts that a run has found out: a name and what it is."""

    def show(self, event: Event) -> None:
        """An event of a run."""
        if event.stage != "done":
            self.update(event.stage, event.step, event.total, event.seconds)


class Lines(Progress):
    """A line at each stage's end, and some on the way through long ones."""

    def __init__(self) -> None:
        self._title = ""
        self._stage, self._begin, self._part = "", 0.0, 0

    def begin(self, title: str) -> None:
        self._title, self._stage, self._begin = title, "", 0.0

    def say(self, facts: Iterable[tuple[str, str]]) -> None:
        _say(facts)

    def update(self, stage: str, step: int, total: int, seconds: float) -> None:
        if stage != self._stage:
            self._stage, self._part = stage, 0
        part = _PARTS * step // total
        if part == self._part:
            return
        self._part = part
        spent = seconds - self._begin
        count = f" {step}/{total}" if total > 1 else ""
        left = f", {_clock(spent / step * (total - step))} left" if step < total else ""
        CONSOLE.print(f"{self._title}{stage}{count}: {_clock(spent)}{left}", markup=False)
        if step == total:
            self._begin = seconds


class Bars(Progress):
    """A bar for each stage, with the time that is left."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Display

        self._display = Display(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=CONSOLE,
            transient=True,
        )
        self._title = ""
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Bars:
        self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()

    def begin(self, title: str) -> None:
        self._title, self._tasks = title, {}

    def say(self, facts: Iterable[tuple[str, str]]) -> None:
        _say(facts)

    def update(self, stage: str, step: int, total: int, seconds: float) -> None:
        if stage not in self._tasks:
            self._add(stage)
        if step:
            self._display.update(self._tasks[stage], completed=step, total=total)
        if step == total and stage in _NEXT and _NEXT[stage] not in self._tasks:
            self._add(_NEXT[stage])

    def _add(self, stage: str) -> None:
        # Without a total it moves, until its first step is done.
        self._tasks[stage] = self._display.add_task(f"{self._title}{stage}", total=None)


def _say(facts: Iterable[tuple[str, str]]) -> None:
    for name, said in facts:
        CONSOLE.print(f"{name + ':':13}{said}", markup=False)


def make_progress(*, is_quiet: bool) -> Progress:
    """The way of showing progress that suits where stderr goes."""
    if is_quiet:
        return Progress()
    return Bars() if CONSOLE.is_terminal else Lines()


def note(text: str, *, is_quiet: bool = False) -> None:
    """Tell something on stderr."""
    if not is_quiet:
        CONSOLE.print(f"Note: {text}", markup=False)


class _Notes(logging.Handler):
    """Shows each sentence once: a checkpoint may be opened twice, for its outline and for its weights."""

    def __init__(self, is_quiet: bool) -> None:
        super().__init__(logging.ERROR if is_quiet else logging.WARNING)
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if sentence not in self._shown:
            self._shown.add(sentence)
            note(sentence)


@contextlib.contextmanager
def library_notes(*, is_quiet: bool) -> Iterator[None]:
    """Show what the library warns of as notes, except what is marked as told by the run itself."""
    from filmstrip.generation.events import TOLD

    handler = _Notes(is_quiet)
    handler.addFilter(lambda record: not TOLD.items() <= vars(record).items())
    logger = logging.getLogger("filmstrip")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02} s"
