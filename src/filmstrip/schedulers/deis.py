"""DEIS: the estimated noise as a polynomial of the logarithm of the noise level (arXiv:2204.13902)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.multistep import MultistepRun, MultistepScheduler, MultistepSettings, lowered, stepped
from filmstrip.schedulers.prediction import Level, combine
from filmstrip.schedulers.schedule import Numbers, interpolation_weights
from filmstrip.schedulers.settings import Spaced, setting, taking


class DEISRun(MultistepRun):
    """The steps of one generation, from the estimates of up to three steps."""

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        known = self.estimates(prediction, step_index, latents, of_noise=True)
        level, target = self.levels[step_index], self.levels[step_index + 1]
        weights = [target.alpha * weight for weight in _integrals([level for level, _ in known], target)]
        return combine(*stepped(target.alpha / level.alpha, latents, weights, known))


def _integrals(levels: list[Level], target: Level) -> list[float]:
    """Integrals over sigma / alpha, from the first level to the target, of the levels' Lagrange polynomials in its log.

    The integral of `log(rho) ** k` is `rho * log(rho) ** k` less k times that of the power below. Logarithms are taken
    relative to the first level, where the powers are small.
    """
    start = levels[0].sigma / levels[0].alpha
    nodes = [levels[0].log_snr - level.log_snr for level in levels]
    end = levels[0].log_snr - target.log_snr  # log of the ratio of both ends
    integrals = [start * math.expm1(end)]
    for power in range(1, len(levels)):
        integrals.append(start * math.exp(end) * end**power - power * integrals[-1])
    return interpolation_weights(nodes, integrals)


@dataclass(frozen=True, eq=False, kw_only=True)
class DEISSettings(Spaced, MultistepSettings):
    """Settings of DEIS."""

    algorithm_type: str = setting('there is one, "deis"; those of other solvers stand for it.', "deis")
    solver_type: str = setting('there is one, "logrho"; those of other solvers stand for it.', "logrho")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.solver_order > 3:
            raise ValueError(f"solver_order must be 1, 2 or 3, got {self.solver_order}.")


class DEISMultistepScheduler(MultistepScheduler[DEISRun]):
    """Settings of DEIS, whose runs end above no noise, but for those of a flow."""

    _run_type = DEISRun
    ends_with_last = True

    @taking(DEISSettings)
    def __init__(self, settings: DEISSettings) -> None:
        self._train()

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        sigmas: Numbers | None = None,
        mu: float | None = None,
    ) -> DEISRun:
        visited, levels = self._schedule(num_inference_steps, timesteps, sigmas, mu)
        orders = [self.config.solver_order] * len(visited)
        if not self._ends_above_zero():
            orders[-1] = 1
        return self._run(visited, levels, orders=lowered(orders, self.config))

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None, mu: float | None = None
    ) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`."""
        self._set(device, num_inference_steps=num_inference_steps, mu=mu)

    def _ends_above_zero(self) -> bool:
        return not self.is_flow
