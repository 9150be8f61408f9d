"""Heun's method of second order between sigmas (arXiv:2206.00364, algorithm 1 without churn)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.exploding import ExplodingRun, TwoCallScheduler, TwoCallSettings
from filmstrip.schedulers.prediction import Terms, combine, scaled
from filmstrip.schedulers.schedule import Levels
from filmstrip.schedulers.settings import Clipped, taking


@dataclass(frozen=True, eq=False)
class HeunRun(ExplodingRun):
    """An Euler step, then a second one from the same latents along the mean of the slopes at both ends."""

    begun: list[tuple[float, Tensor, Terms]] = field(default_factory=list, init=False, repr=False)

    order: ClassVar[int] = 2

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        sigma, slope = self.levels[step_index], self.slope(prediction, step_index, latents)
        if not self.begun:
            if step_index + 1 < len(self.timesteps):  # the last step to zero is an Euler step
                self.begun.append((sigma, latents, slope))
            return combine((1.0, latents), *scaled(self.levels[step_index + 1] - sigma, slope))
        first_sigma, first_latents, first_slope = self.begun.pop()
        return combine((1.0, first_latents), *scaled((sigma - first_sigma) / 2, [*first_slope, *slope]))


@dataclass(frozen=True, eq=False, kw_only=True)
class HeunSettings(Clipped, TwoCallSettings):
    """Settings of Heun's method."""

    clip_sample: bool = False


class HeunDiscreteScheduler(TwoCallScheduler[HeunRun]):
    """Settings of Heun sampling, which calls the network twice for each step but the last."""

    _run_type = HeunRun

    @taking(HeunSettings)
    def __init__(self, settings: HeunSettings) -> None:
        self._train()
        self._hold(self.start(settings.num_train_timesteps))

    def _run(
        self, timesteps: Levels, sigmas: Levels, generator: Generators = None, levels: Levels | None = None
    ) -> HeunRun:
        return super()._run(_twice(timesteps), np.append(_twice(sigmas[:-1]), sigmas[-1]), generator, levels)


def _twice(values: Levels) -> Levels:
    """Each value but the first one twice."""
    return np.append(values[:1], np.repeat(values[1:], 2))
