"""What a job tells while it is carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

JobStage = Literal["load", "encode", "denoise", "decode", "write"]
"""In this order. Frames are written while they are decoded: "write" is what is left to do after that."""


@dataclass(frozen=True)
class Advanced:
    """So many steps of a stage are done; none when it begins."""

    stage: JobStage
    step: int
    total: int
    seconds: float
    """Since the video began, or the loading."""


@dataclass(frozen=True)
class Fetched:
    """So much of what loading needs has come from the hub; told from the threads that fetch it, one at a time."""

    what: str
    """A component, or the repository."""
    done_bytes: int
    total_bytes: int
    """0 where it is not known, or not yet."""
    seconds: float
    """Since the fetching of it began."""


@dataclass(frozen=True)
class Begun:
    """A video begins."""

    number: int
    """From 1."""
    total: int
    target: Path


@dataclass(frozen=True)
class Learned:
    """A fact that loading has found out: what is quantised, how the job fits into its memory."""

    name: str
    said: str


@dataclass(frozen=True)
class Noted:
    """What is done otherwise than asked for, or is worth knowing: one sentence."""

    sentence: str
    is_urgent: bool = False
    """Whether something may be lost, so that it is told even to who wants to hear nothing."""


@dataclass(frozen=True)
class Kept:
    """The job ends before a video is whole, and `finish_video` can go on from what is kept of it."""

    path: Path
    target: Path
    """Where the video was to go."""


@dataclass(frozen=True)
class MadeVideo:
    """A video is done: its file is whole."""

    path: Path
    seed: int | None
    num_frames: int
    width: int
    height: int
    fps: float
    record: Mapping[str, object]
    """What is written down with it."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each stage."""
    cut_off: tuple[str, ...] = ()
    """What of the prompt did not count."""
    contact_sheet: Path | None = None


JobEvent = Advanced | Fetched | Begun | Learned | Noted | Kept | MadeVideo
Tell = Callable[[JobEvent], None]
"""Is handed each event as it happens; to cancel a job, raise an exception of your own."""
