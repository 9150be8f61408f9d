"""Progress as bars on a terminal: a row for each stage of the video that is being made."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Display
from rich.text import Text

from filmstrip.cli.progress import NEXT, Notes, Progress, amount_of, clock, time_left
from filmstrip.jobs import Fetched


class Bars(Progress):
    """A bar for each stage of the current video, with the time that it has taken and that is left."""

    def __init__(self, notes: Notes, console: Console) -> None:
        super().__init__(notes)
        # What others print is let through as it is: taking it in means to wait for them while they may wait for us.
        self._display = Display(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Count(),
            _Clocks(),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._console = console
        self._title = ""
        self._tasks: dict[str, TaskID] = {}
        self._ahead: str | None = None  # the stage whose row moves, though nothing was heard of it yet

    def __enter__(self) -> Bars:
        self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()

    def begin(self, title: str) -> None:
        for name in [*self._tasks]:
            self._remove(name)
        self._title, self._ahead = title, None
        self._add_ahead("encode")

    def say(self, line: str) -> None:
        self._console.print(line, markup=False)

    def update(self, stage: str, step: int, total: int, seconds: float) -> None:
        self._current(stage)
        if step:
            self._display.update(self._tasks[stage], completed=step, total=total, said=f"{step}/{total}")
        if step == total and stage in NEXT and NEXT[stage] not in self._tasks:
            self._add_ahead(NEXT[stage])

    def fetch(self, part: Fetched) -> None:
        name = f"fetch {part.what}"
        if name not in self._tasks:
            for other in [one for one in self._tasks if one.startswith("fetch ")]:
                self._remove(other)
        self._current(name)
        said = f"{amount_of(part)}{time_left(part)}"
        self._display.update(self._tasks[name], completed=part.done_bytes, total=part.total_bytes or None, said=said)

    def _current(self, name: str) -> None:
        """See that a row is there, and none of a stage that was left out."""
        if self._ahead not in (None, name):
            self._remove(str(self._ahead))
        self._ahead = None
        if name not in self._tasks:
            # Without a total it moves, until its first step is done.
            self._tasks[name] = self._display.add_task(f"{self._title}{name}", total=None, said="")

    def _add_ahead(self, name: str) -> None:
        self._current(name)
        self._ahead = name

    def _remove(self, name: str) -> None:
        self._display.remove_task(self._tasks.pop(name))


class _Count(ProgressColumn):
    """Steps, or bytes and their rate."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("said", "")))


class _Clocks(ProgressColumn):
    """How long it has taken, and how long it will."""

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time if task.finished else task.elapsed
        left = task.time_remaining
        parts = [] if elapsed is None else [f"{clock(elapsed)} elapsed"]
        if left is not None and not task.finished and not task.description.rpartition(": ")[2].startswith("fetch "):
            parts.append(f"{clock(left)} left")
        return Text(", ".join(parts), "cyan")
