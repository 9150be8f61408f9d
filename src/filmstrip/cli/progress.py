"""What a run shows while it works, on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from filmstrip.jobs import Advanced, Begun, JobEvent, Kept, Learned, MadeVideo, Noted

if TYPE_CHECKING:
    from rich.progress import TaskID

STDERR = Console(stderr=True, highlight=False, soft_wrap=True)
_NEXT = {"load": "encode", "encode": "denoise", "denoise": "decode"}
_PARTS = 4  # lines for one stage, where there are no bars


class Progress:
    """Shows notes only; the other ways of showing progress build on it."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""

    def begin(self, title: str) -> None:
        """A video begins; its title tells it from others of the same run."""

    def update(self, stage: str, step: int, total: int, seconds: float) -> None:
        """So many steps of a stage are done, at that time since the video began."""

    def say(self, line: str) -> None:
        """A line above the progress."""

    def show(self, event: JobEvent) -> None:
        """An event of a job."""
        match event:
            case Begun(number, total):
                self.begin(f"video {number} of {total}: " if total > 1 else "")
            case Advanced("write"):
                pass  # done in a moment, and in the closing table
            case Advanced(stage, step, total, seconds):
                self.update(stage, step, total, seconds)
            case Learned(name, said):
                self.say(f"{name + ':':13}{said}")
            case Noted(sentence, is_urgent):
                self._notes(sentence, is_urgent=is_urgent)
            case Kept(path, target):
                words = ["filmstrip", "decode", str(path)]
                if path.absolute().parent != target.absolute().parent:
                    words += ["-o", str(target)]
                self._notes(
                    f"what is done is kept in {path}; `{shlex.join(words)}` goes on from there.", is_urgent=True
                )
            case MadeVideo():
                pass  # in the closing table


class Lines(Progress):
    """A line at each stage's end, and some on the way through long ones."""

    def __init__(self, notes: Notes) -> None:
        super().__init__(notes)
        self._title = ""
        self._stage, self._begin, self._part = "", 0.0, 0

    def begin(self, title: str) -> None:
        self._title, self._stage, self._begin = title, "", 0.0

    def say(self, line: str) -> None:
        STDERR.print(line, markup=False)

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
        STDERR.print(f"{self._title}{stage}{count}: {_clock(spent)}{left}", markup=False)
        if step == total:
            self._begin = seconds


class Bars(Progress):
    """A bar for each stage, with the time that is left."""

    def __init__(self, notes: Notes) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Display

        super().__init__(notes)
        self._display = Display(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=STDERR,
            transient=True,
        )
        self._title = ""
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()

    def begin(self, title: str) -> None:
        self._title, self._tasks = title, {}

    def say(self, line: str) -> None:
        STDERR.print(line, markup=False)

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


class Notes:
    """Shows each note once, whether it is told by a job or by the library before there is one."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._shown: set[str] = set()

    def __call__(self, sentence: str, *, is_urgent: bool = False) -> None:
        if sentence not in self._shown and (is_urgent or not self._is_quiet):
            self._shown.add(sentence)
            STDERR.print(f"Note: {sentence}", markup=False)


@contextmanager
def trying(*, is_quiet: bool) -> Iterator[Callable[[str], None]]:
    """As long as it lasts, what it gives shows on a terminal what is tried, in one line that is gone in the end."""
    if is_quiet or not STDERR.is_terminal:
        yield lambda line: None
        return
    with STDERR.status("") as status:
        yield lambda line: status.update(escape(line))


def make_progress(notes: Notes, *, is_quiet: bool) -> Progress:
    """The way of showing progress that suits where stderr goes."""
    if is_quiet:
        return Progress(notes)
    return Bars(notes) if STDERR.is_terminal else Lines(notes)


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02} s"
