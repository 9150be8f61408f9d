"""What a run tells of its progress, so that it can be kept and gone on from."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from filmstrip.generation.events import Step

if TYPE_CHECKING:
    from filmstrip.generation.session import Session
    from filmstrip.schedulers import Run


class Journal:
    """Follows one run; this one keeps nothing and knows nothing of an earlier run."""

    latents: Tensor | None = None
    """Those that an earlier run has finished, so that only their decoding is left."""
    cut_off: tuple[str, ...] = ()
    """What of each prompt that run could not use."""
    coding: Any = None
    """How that run divided the autoencoder's work; None: as the autoencoder is set."""

    def begin(self, session: Session[Any]) -> None:
        """A run begins.

        Raises:
            ValueError: it is to be kept, and can't be.
        """

    def loop(self, run: Run, latents: Tensor, timesteps: list[float]) -> Generator[Step, None, tuple[int, Tensor]]:
        """Yield the steps of a beginning loop that an earlier run has made; returns their number and its latents."""
        return 0, latents
        yield

    def repeat(self, step: Step) -> None:
        """Put what a callback had replaced by the end of the steps that were made into one of these steps."""

    def change(self, changed: dict[str, Tensor], guidance_scale: float) -> None:
        """A callback has replaced these tensors, and left this guidance scale."""

    def step(self, done: int, total: int, latents: Tensor, run: Run) -> None:
        """So many steps of the present loop are made, and this is what it goes on from."""

    def finish(self, latents: Tensor) -> None:
        """All steps are made; decoding begins."""

    def fail(self, error: BaseException) -> None:
        """The run has failed: say in the error how to go on, and let it carry what is finished."""
