"""The one stream that tells what a run is doing; progress bars, callbacks, the command and servers read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

Stage = Literal["encode", "denoise", "decode", "done"]

TOLD = {"told_by_run": True}
"""The `extra` of a warning that is logged for readers of logs only: whoever reads the run hears of it anyway."""


@dataclass
class Event:
    """One thing that happened."""

    stage: Stage
    step: int  # of this stage, counted from 1
    total: int  # steps of this stage
    seconds: float  # since the run began
    timestep: float | None = None
    """What the network was fed, after a step of "denoise"."""
    latents: Tensor | None = None
    """After a step of "denoise", packed as the network takes them."""
    frames: Tensor | None = None
    """Pixels in [-1, 1], (batch, 3, frames, height, width): each run of frames that "decode" has finished."""
    output: Any = None
    """What the pipeline returns, once "done"."""
    notes: tuple[str, ...] = ()
    """What the run has to tell since the event before, a sentence each."""


@dataclass
class Step:
    """One finished denoising step. The loop goes on from `latents`, so a reader may replace them."""

    index: int
    total: int
    timestep: float
    latents: Tensor
    before: Tensor
    """What the step was made from."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Other tensors that a callback may look at, and replace by name."""
    guidance_scale: float | None = None
    """The scale from the next step on, if a callback has a say in it."""
    is_repeated: bool = False
    """Whether the step was made by an earlier run, from which this one goes on."""
