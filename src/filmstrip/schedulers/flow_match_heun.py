"""Heun's method of second order along the paths of flow matching (arXiv:2206.00364, algorithm 2; arXiv:2403.03206)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.base import SchedulerOutput
from filmstrip.schedulers.euler import churned_sigma
from filmstrip.schedulers.flow_match import FlowMatchRun, FlowMatchScheduler, FlowMatchSettings
from filmstrip.schedulers.heun import HeunBeginning, HeunSteps, twice
from filmstrip.schedulers.prediction import Terms, combine
from filmstrip.schedulers.settings import taking


@dataclass(frozen=True, eq=False)
class FlowMatchHeunRun(HeunSteps, FlowMatchRun):
    """Heun's steps between the noise levels of one generation, towards which noise can be added before each."""

    begun: HeunBeginning = field(default_factory=list, init=False, repr=False)

    def step(
        self,
        prediction: Tensor,
        step_index: int,
        latents: Tensor,
        *,
        generator: Generators = None,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = math.inf,
        s_noise: float = 1.0,
    ) -> Tensor:
        """The latents after a call of the network, computed in float32 or wider and given in the prediction's type.

        Args:
            generator: of the noise of churning; the run's own if None.
            s_churn: how much noise is added over the run, at levels from `s_tmin` to `s_tmax`.
            s_noise: standard deviation of that noise.
        """
        level = self.levels[step_index]
        slope: Terms = [(1.0, prediction)]
        begun = self.levels[step_index - 1] if self.begun else level
        churned = churned_sigma(begun, len(self.sigmas) - 1, s_churn, s_tmin, s_tmax)
        if churned > begun:
            # The second call of a step draws as much, and starts from the same latents all the same.
            generator = self.generator if generator is None else generator
            noise = draw_noise(prediction.shape, generator, prediction.device, prediction.dtype)
            if not self.begun:
                latents = combine((1.0, latents), (s_noise * (churned**2 - level**2) ** 0.5, noise))
                level, slope = churned, [(level / churned, prediction)]
        return self.along(slope, step_index, latents, level).to(prediction.dtype)


@dataclass(frozen=True, eq=False)
class FlowMatchHeunSettings(FlowMatchSettings):
    """Settings of Heun's method for flow matching: those of Euler's."""

    known_elsewhere = ("num_train_timesteps", "shift")


class FlowMatchHeunDiscreteScheduler(FlowMatchScheduler[FlowMatchHeunRun]):
    """Settings of Heun sampling for flow matching, which calls the network twice for each step but the last."""

    order = 2

    @taking(FlowMatchHeunSettings)
    def __init__(self, settings: FlowMatchHeunSettings) -> None:
        self._train(settings)

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = math.inf,
        s_noise: float = 1.0,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """One call of the held run; see the run's `step`.

        Args:
            timestep: one of `timesteps`; it is looked up at the first step only.
        """
        churn = {"s_churn": s_churn, "s_tmin": s_tmin, "s_tmax": s_tmax, "s_noise": s_noise}
        index = self._next_index(timestep)
        latents = self._held.step(model_output, index, sample, generator=generator, **churn)
        return SchedulerOutput(latents) if return_dict else (latents,)

    def _over(self, sigmas: Tensor, timesteps: Tensor, generator: Generators = None) -> FlowMatchHeunRun:
        levels = torch.cat([torch.from_numpy(twice(sigmas[:-1].numpy())), sigmas[-1:]])
        fed = torch.from_numpy(twice(timesteps.numpy()))
        return FlowMatchHeunRun(levels, fed, len(self), generator=generator)
