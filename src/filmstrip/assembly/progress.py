"""The bar that a pipeline's call draws on stderr while it denoises: alive on a terminal, one closing line elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from filmstrip.generation.events import Event


@dataclass(frozen=True)
class BarSettings:
    """What `set_progress_bar_config` sets, in the words of tqdm."""

    disable: bool | None = False
    """Whether to draw nothing; None draws on a terminal only."""
    leave: bool = True
    """Whether the full bar stays on the terminal."""
    desc: str = "denoise"
    """What stands before the bar."""

    @property
    def is_shown(self) -> bool:
        return sys.stderr.isatty() if self.disable is None else not self.disable


def with_bar(events: Iterator[Event], settings: BarSettings) -> Iterator[Event]:
    """Yield the events of a run, and draw how far its denoising is."""
    if not settings.is_shown:
        yield from events
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        *columns,
        console=Console(stderr=True),
        transient=not settings.leave,
    )
    bar.start()
    task, is_running = None, True
    try:
        for event in events:
            if event.stage == "denoise":
                task = bar.add_task(settings.desc) if task is None else task
                bar.update(task, completed=event.step, total=event.total)
            elif is_running and event.stage in ("decode", "done"):
                bar.stop()  # what the caller prints while it decodes stands below the full bar
                is_running = False
            yield event
    finally:
        if is_running:  # stopped again, it would print an empty line
            bar.stop()
