"""What a run shows while it works, on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from filmstrip.cli.printing import bytes_of
from filmstrip.jobs import Advanced, Begun, Fetched, JobEvent, Kept, Learned, MadeVideo, Noted

STDERR = Console(stderr=True, highlight=False, soft_wrap=True)
NEXT = {"encode": "denoise", "denoise": "decode", "decode": "write"}
_DOING = {"load": "loading", "encode": "encoding", "denoise": "denoising", "decode": "decoding", "write": "writing"}
_PARTS = 4  # lines for one stage, where there are no bars
_LONGEST_SILENCE = 30.0
"""Seconds without a line, after which one says that the work goes on."""


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

    def fetch(self, part: Fetched) -> None:
        """So much of a download has come."""

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
            case Fetched():
                self.fetch(event)
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
    """A line at each stage's end, some on the way through long ones, and one whenever nothing was said for long."""

    def __init__(self, notes: Notes) -> None:
        super().__init__(notes)
        self._title = ""
        self._stage, self._begin, self._part = "", 0.0, 0
        self._doing, self._since, self._spoke_at = "", time.monotonic(), time.monotonic()
        self._is_over = threading.Event()
        self._watch = threading.Thread(target=self._say_that_it_goes_on, daemon=True)

    def __enter__(self) -> Lines:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._watch.join()

    def begin(self, title: str) -> None:
        self._title, self._stage, self._begin = title, "", 0.0
        self._now_doing(_DOING["encode"])

    def say(self, line: str) -> None:
        STDERR.print(line, markup=False)
        self._spoke_at = time.monotonic()

    def update(self, stage: str, step: int, total: int, seconds: float) -> None:
        if stage != self._stage:
            self._stage, self._part = stage, 0
        count = f" {step}/{total}" if total > 1 else ""
        if not self._doing.startswith(_DOING[stage]):
            self._since = time.monotonic()
        self._doing = _DOING[stage] + (f",{count}" if count else "")
        part = _PARTS * step // total
        if part != self._part:
            self._part = part
            spent = seconds - self._begin
            left = f", {clock(spent / step * (total - step))} left" if step < total else ""
            self.say(f"{self._title}{stage}{count}: {clock(spent)}{left}")
        if step == total:
            self._begin = seconds
            self._now_doing(_DOING[NEXT[stage]] if stage in NEXT else "")

    def fetch(self, part: Fetched) -> None:
        doing = f"fetching {part.what}"
        if not self._doing.startswith(doing):
            self._now_doing(doing)
            self._part = -1
        amount = f"{amount_of(part)}{time_left(part)}"
        self._doing = f"{doing}, {amount}"
        share = _PARTS * part.done_bytes // part.total_bytes if part.total_bytes else 0
        if share != self._part:
            self._part = share
            self.say(f"fetch {part.what}: {amount}, {clock(part.seconds)}")
        if part.done_bytes == part.total_bytes:
            self._now_doing(_DOING["load"])

    def _now_doing(self, what: str) -> None:
        self._doing, self._since = what, time.monotonic()

    def _say_that_it_goes_on(self) -> None:
        while not self._is_over.wait(max(0.0, self._spoke_at + _LONGEST_SILENCE - time.monotonic())):
            if time.monotonic() - self._spoke_at >= _LONGEST_SILENCE:
                doing = self._doing or "at work"
                self.say(f"{self._title}still {doing}, {clock(time.monotonic() - self._since)}")


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
    if not STDERR.is_terminal or STDERR.is_dumb_terminal:
        return Lines(notes)
    from filmstrip.cli.bars import Bars

    return Bars(notes, STDERR)


def amount_of(part: Fetched) -> str:
    """Such as "1.2 GB of 9.4 GB, 55 MB/s"."""
    of = f" of {bytes_of(part.total_bytes)}" if part.total_bytes else ""
    rate = f", {bytes_of(round(part.done_bytes / part.seconds))}/s" if part.seconds > 0 else ""
    return f"{bytes_of(part.done_bytes)}{of}{rate}"


def time_left(part: Fetched) -> str:
    """The end of a line that says when a download may be done, as far as that is known."""
    rest = part.total_bytes - part.done_bytes
    return f", {clock(part.seconds / part.done_bytes * rest)} left" if rest > 0 and part.done_bytes else ""


def clock(seconds: float) -> str:
    """A time such as "2 min 10 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02} s"
