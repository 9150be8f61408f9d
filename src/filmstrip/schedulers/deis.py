"""DEIS: the estimated noise as a polynomial of the logarithm of the noise level (arXiv:2204.13902)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.base import SchedulerOutput
from filmstrip.schedulers.multistep import MultistepRun, MultistepScheduler, stepped
from filmstrip.schedulers.prediction import Level, combine
from filmstrip.schedulers.schedule import Numbers, interpolation_weights


@dataclass(frozen=True, eq=False)
class DEISRun(MultistepRun):
    """The steps of one generation, from the estimates of up to three steps."""

    orders: tuple[int, ...] = ()  # of each step, if there are enough estimates

    def step(self, prediction: Tensor, step_index: int, latents: Tensor, *, generator: Generators = None) -> Tensor:
        """The latents after one step, computed in float32 or wider."""
        level, target = self.levels[step_index], self.levels[step_index + 1]
        known = self.estimates(prediction, latents, level, of_noise=True, length=max(self.orders))
        known = known[: self.orders[step_index]]
        weights = [target.alpha * weight for weight in _integrals([level for level, _ in known], target)]
        moved = combine(*stepped(target.alpha / level.alpha, latents, weights, known))
        return moved.to(torch.promote_types(latents.dtype, prediction.dtype))


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


class DEISMultistepScheduler(MultistepScheduler):
    """Settings of DEIS.

    Args:
        algorithm_type, solver_type: there is one, "deis" and "logrho"; those of other solvers stand for it.

    The others are those of `DPMSolverMultistepScheduler`. Runs end above no noise.
    """

    ends_with_last = True

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Numbers | None = None,
        solver_order: int = 2,
        prediction_type: Literal["epsilon", "sample", "v_prediction", "flow_prediction"] = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        algorithm_type: str = "deis",
        solver_type: str = "logrho",
        lower_order_final: bool = True,
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        use_beta_sigmas: bool | None = False,
        use_flow_sigmas: bool | None = False,
        flow_shift: float | None = 1.0,
        timestep_spacing: Literal["linspace", "leading", "trailing"] = "linspace",
        steps_offset: int = 0,
        use_dynamic_shifting: bool = False,
        time_shift_type: Literal["exponential"] = "exponential",
    ) -> None:
        if solver_order > 3:
            raise ValueError(f"solver_order must be 1, 2 or 3, got {solver_order}.")
        self._train()

    def start(self, num_inference_steps: int | None = None, *, mu: float | None = None) -> DEISRun:
        """The schedule and solver of one generation.

        Args:
            mu: logarithm of the shift of flow sigmas, with use_dynamic_shifting.
        """
        visited, sigmas = self._schedule(num_inference_steps, mu=mu)
        orders = self._lowered([self.config.solver_order] * len(visited))
        run: DEISRun = self._run(DEISRun, visited, sigmas, None, orders)
        return run

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None, mu: float | None = None
    ) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`."""
        self._set(device, num_inference_steps=num_inference_steps, mu=mu)

    def step(
        self, model_output: Tensor, timestep: int | Tensor, sample: Tensor, return_dict: bool = True
    ) -> SchedulerOutput | tuple[Tensor]:
        """One step of the held run; the first one is found by its timestep."""
        return self._stepped(model_output, timestep, sample, return_dict)

    def _ends_above_zero(self) -> bool:
        return True
