"""DPM-Solver-2 in sigmas: half a step, then a whole one along the slope found there (arXiv:2206.00927, algorithm 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.euler import ancestral_split
from filmstrip.schedulers.exploding import AncestralScheduler, ExplodingRun, TwoCallScheduler, TwoCallSettings
from filmstrip.schedulers.prediction import combine, scaled
from filmstrip.schedulers.schedule import Levels
from filmstrip.schedulers.settings import taking


@dataclass(frozen=True, eq=False)
class KDPM2Run(ExplodingRun):
    """Two calls of the network for each step but the last; `levels` alternates between steps and their middles."""

    begun: list[tuple[float, Tensor]] = field(default_factory=list, init=False, repr=False)

    order: ClassVar[int] = 2
    is_ancestral: ClassVar[bool] = False

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        slope = self.slope(prediction, step_index, latents)
        level, next_level = self.levels[step_index], self.levels[step_index + 1]
        if not self.begun:
            if next_level > 0:  # the last step to zero is an Euler step
                self.begun.append((level, latents))
            return combine((1.0, latents), *scaled(next_level - level, slope))
        sigma, first_latents = self.begun.pop()
        terms = []
        if self.is_ancestral:
            next_level, up = ancestral_split(sigma, next_level)
            noise = draw_noise(prediction.shape, generator, prediction.device, prediction.dtype)
            terms.append((up, noise))
        return combine((1.0, first_latents), *scaled(next_level - sigma, slope), *terms)


class KDPM2AncestralRun(KDPM2Run):
    """The same with a shorter step, up from which fresh noise fills."""

    is_ancestral = True


class KDPM2DiscreteScheduler(TwoCallScheduler[KDPM2Run]):
    """Settings of DPM-Solver-2, which calls the network twice for each step but the last."""

    _run_type = KDPM2Run

    @taking(TwoCallSettings)
    def __init__(self, settings: TwoCallSettings) -> None:
        self._train()
        self._hold(self.start(settings.num_train_timesteps))

    def _run(
        self, timesteps: Levels, sigmas: Levels, generator: Generators = None, levels: Levels | None = None
    ) -> KDPM2Run:
        if self._respacing == "karras":
            timesteps = timesteps.round()
        steps, following = sigmas[:-2], sigmas[1:-1]
        if self._run_type.is_ancestral:
            following = np.array([ancestral_split(*pair)[0] for pair in zip(steps, following, strict=True)])
        middles = np.sqrt(steps * following)
        calls = np.append(_alternating(sigmas[:-1], middles), 0.0)
        timesteps_fed = _alternating(timesteps, self._table.timesteps_of(middles))
        shown = np.concatenate([sigmas[:1], np.repeat(sigmas[1:], 2), sigmas[-1:]])
        return super()._run(timesteps_fed, shown, generator, calls)


class KDPM2AncestralDiscreteScheduler(AncestralScheduler[KDPM2Run], KDPM2DiscreteScheduler):  # type: ignore[misc]
    """Settings of DPM-Solver-2 with fresh noise at each step, for which `step` takes a generator."""

    _run_type = KDPM2AncestralRun


def _alternating(steps: Levels, middles: Levels) -> Levels:
    """The first step, the middle after it, the second step, and so on."""
    both = np.empty(len(steps) + len(middles))
    both[0::2], both[1::2] = steps, middles
    return both
