"""Heun's method of second order between sigmas (arXiv:2206.00364, algorithm 1 without churn)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.exploding import ExplodingRun, TwoCallScheduler, TwoCallSettings
from filmstrip.schedulers.prediction import Terms, combine, scaled
from filmstrip.schedulers.runs import Run
from filmstrip.schedulers.schedule import Levels
from filmstrip.schedulers.settings import Clipped, taking

HeunBeginning = list[tuple[float, Tensor, Terms]]  # one or none: sigma, latents and slope where a step began


class HeunSteps(Run):
    """An Euler step, then a second one from the same latents along the mean of the slopes at both ends."""

    levels: tuple[float, ...]
    begun: HeunBeginning

    order: ClassVar[int] = 2

    def along(self, slope: Terms, step_index: int, latents: Tensor, sigma: float) -> Tensor:
        """The latents after a call of the network, which found the slope at the latents with this sigma."""
        if not self.begun:
            if step_index + 1 < len(self.timesteps):  # the last step to zero is an Euler step
                self.begun.append((sigma, latents, slope))
            return combine((1.0, latents), *scaled(self.levels[step_index + 1] - sigma, slope))
        first_sigma, first_latents, first_slope = self.begun.pop()
        return combine((1.0, first_latents), *scaled((sigma - first_sigma) / 2, [*first_slope, *slope]))


@dataclass(frozen=True, eq=False)
class HeunRun(HeunSteps, ExplodingRun):
    """Heun's steps in sigmas."""

    begun: HeunBeginning = field(default_factory=list, init=False, repr=False)

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        slope = self.slope(prediction, step_index, latents)
        return self.along(slope, step_index, latents, self.levels[step_index])


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
        return super()._run(twice(timesteps), np.append(twice(sigmas[:-1]), sigmas[-1]), generator, levels)


def twice(values: NDArray[Any]) -> NDArray[Any]:
    """Each value but the first one twice: what is called for steps that begin and end there."""
    return np.append(values[:1], np.repeat(values[1:], 2))
