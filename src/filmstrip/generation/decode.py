"""From finished latents to frames, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from filmstrip.generation.finite import check_finite
from filmstrip.memory.coding import Coding
from filmstrip.memory.falling_back import Decode, decoded
from filmstrip.memory.residency import execution_device
from filmstrip.randomness import NoiseState

if TYPE_CHECKING:
    from filmstrip.generation.session import Session


def decoded_frames(session: Session[Any], latents: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield exactly the frames asked for in runs, (batch, 3, frames, height, width), each with their number by its end.

    Where memory does not suffice, or float16, the rest of them are decoded in another way.
    """
    size, vae = session.request.size, session.recipe.vae
    for done, pixels in _exact(
        decoded(_decoder(session, latents), vae, (size.height, size.width), session.say, session.coding),
        size.num_frames,
    ):
        check_finite(pixels, "vae", f"frame {done - pixels.shape[2] + 1}")
        yield done, pixels


def _decoder(session: Session[Any], latents: Tensor) -> Decode:
    """From an autoencoder and a coding, the runs of frames of finished latents, with the same noise at every call."""
    noise: NoiseState | None = None
    own = session.recipe.vae

    def decode(vae: Any, coding: Coding | None) -> Iterator[Tensor]:
        nonlocal noise
        if noise is None:
            noise = NoiseState.of(session.generator, execution_device(own))
        elif session.generator is None:
            session.generator = noise.generators()
        else:
            noise.restore(session.generator)
        latents_there = latents if vae is own else latents.to(execution_device(vae))
        return session.recipe.decode(session, vae, latents_there, coding)

    return decode


def _exact(runs: Iterator[Tensor], num_frames: int) -> Iterator[tuple[int, Tensor]]:
    """Runs of frames up to exactly `num_frames`, each with how many there are by its end."""
    done = 0
    for frames in runs:
        frames = frames[:, :, : num_frames - done]
        done += frames.shape[2]
        if frames.shape[2]:
            yield done, frames
        if done == num_frames:
            return


class Collected:
    """Runs of frames in one of the output types, put together along time as they come, so that none is there twice."""

    def __init__(self, num_frames: int) -> None:
        self._num_frames = num_frames
        self._whole: Any = None

    def add(self, done: int, run: Any) -> None:
        """Put a run where it belongs; `done` is how many frames there are by its end."""
        if isinstance(run, list):
            self._whole = [[*before, *more] for before, more in zip(self._whole or [[]] * len(run), run, strict=True)]
        elif run.shape[1] == self._num_frames:
            self._whole = run
        else:
            if self._whole is None:
                shape = (len(run), self._num_frames, *run.shape[2:])
                self._whole = run.new_empty(shape) if isinstance(run, Tensor) else np.empty(shape, run.dtype)
            self._whole[:, done - run.shape[1] : done] = run

    @property
    def frames(self) -> Any:
        """All of them, once all have come."""
        return self._whole
