"""Linear multistep sampling: the slopes of the last steps, extrapolated by a polynomial in sigma."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.discrete import DenoisedOutput
from filmstrip.schedulers.exploding import ExplodingRun, ExplodingScheduler, ExplodingSettings
from filmstrip.schedulers.prediction import Terms, combine, joined, scaled
from filmstrip.schedulers.schedule import interpolation_weights
from filmstrip.schedulers.settings import Respaced, taking


@dataclass(frozen=True, eq=False)
class LMSRun(ExplodingRun):
    """Adams-Bashforth steps over uneven sigmas, of an order that rises with the number of slopes known."""

    slopes: list[tuple[float, Terms]] = field(default_factory=list, init=False, repr=False)  # the newest one first

    def step(
        self,
        prediction: Tensor,
        step_index: int,
        latents: Tensor,
        *,
        generator: Generators = None,
        order: int = 4,
    ) -> Tensor:
        """The latents after one step, computed in float32 or wider.

        Args:
            generator: without effect: the solver draws no noise.
            order: how many slopes are used at most.
        """
        sigma, next_sigma = self.levels[step_index], self.levels[step_index + 1]
        self.slopes[:] = [(sigma, joined(self.slope(prediction, step_index, latents))), *self.slopes][:order]
        way = next_sigma - sigma
        integrals = [way ** (power + 1) / (power + 1) for power in range(len(self.slopes))]
        weights = interpolation_weights([known - sigma for known, _ in self.slopes], integrals)
        pairs = zip(weights, self.slopes, strict=True)
        terms = [term for weight, (_, slope) in pairs for term in scaled(weight, slope)]
        return combine((1.0, latents), *terms).to(torch.promote_types(latents.dtype, prediction.dtype))


@dataclass(frozen=True, eq=False)
class LMSSettings(Respaced, ExplodingSettings):
    """Settings of linear multistep sampling."""


class LMSDiscreteScheduler(ExplodingScheduler[LMSRun]):
    """Settings of linear multistep sampling."""

    _run_type = LMSRun

    @taking(LMSSettings)
    def __init__(self, settings: LMSSettings) -> None:
        self._train()
        self._hold(self.start(settings.num_train_timesteps))

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        order: int = 4,
        return_dict: bool = True,
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """One step of the held run.

        Args:
            timestep: one of `timesteps`; it is looked up at the first step only.
            order: how many steps are looked back on, this one included.
        """
        return self._stepped(model_output, timestep, sample, return_dict, order=order)
