"""What a run gives: its videos, and a report of what else it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from filmstrip.outputs import Output


@dataclass
class Report:
    """What a run did besides making the video."""

    adjustments: tuple[str, ...] = ()
    """What was done differently from the request, and why."""
    cut_off: tuple[str, ...] = ()
    """What of each prompt did not fit into the text encoder's window."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time that each stage took."""
    notes: list[str] = field(default_factory=list)
    """What happened on the way."""


@dataclass
class VideoOutput(Output):
    """The videos of a run.

    `frames` is by the call's output_type: "pil" a list of pictures for each video; "np" float32 in [0, 1] and "uint8"
    an array, (batch, frames, height, width, 3); "pt" a tensor, (batch, frames, 3, height, width); "latent" latents.
    """

    frames: Any
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        super().__post_init__()
        del self["report"]  # code that unpacks the result expects the frames alone
