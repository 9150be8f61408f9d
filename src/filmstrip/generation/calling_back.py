"""The callback that pipelines of the first years take, beside the one that all pipelines take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from filmstrip.generation.arguments import Arguments, argument
from filmstrip.generation.events import Step
from filmstrip.json_files import shown


@dataclass(frozen=True, eq=False, kw_only=True)
class CalledBack(Arguments):
    """A callback that sees the latents of every so many steps."""

    callback: Callable[[int, float, Tensor], Any] | None = argument(
        "called as (step, timestep, latents) at every `callback_steps` steps.", is_data=False
    )
    callback_steps: int = argument("how often `callback` is called.", 1, range="count")

    def check_old_callback(self) -> None:
        """See that it can be called."""
        if self.callback is not None and not callable(self.callback):
            raise ValueError(f"callback must be callable, got {shown(self.callback)}.")

    def call_back(self, step: Step) -> None:
        """Show it a step, if that is its turn."""
        if self.callback is not None and step.index % self.callback_steps == 0 and not step.is_repeated:
            self.callback(step.index, step.timestep, step.latents)
