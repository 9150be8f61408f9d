"""UniPC: a predictor, and a corrector that costs no call of the network (arXiv:2302.04867)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.base import Run, Scheduler, SchedulerOutput
from filmstrip.schedulers.multistep import MultistepRun, MultistepScheduler, stepped
from filmstrip.schedulers.prediction import Level, combine
from filmstrip.schedulers.schedule import Levels, Numbers, check_choice, shift_levels, stretch_to_terminal

# Settings of other solvers, under the same name, that stand for this solver's own default.
_FOREIGN_TYPES = ("midpoint", "heun", "logrho")


@dataclass(frozen=True, eq=False)
class UniPCRun(MultistepRun):
    """The steps of one generation, each corrected once the network was called at its end."""

    of_noise: bool = False
    is_bh1: bool = False
    orders: tuple[int, ...] = ()  # of each step, if there are enough estimates
    uncorrected: frozenset[int] = frozenset()  # steps that are left as predicted
    predictor: Run | None = None  # takes the steps instead
    begun: list[tuple[Tensor, int]] = field(default_factory=list, init=False, repr=False)  # the step before, its order

    def step(self, prediction: Tensor, step_index: int, latents: Tensor, *, generator: Generators = None) -> Tensor:
        """The latents after one step, computed in float32 or wider."""
        dtype = torch.promote_types(latents.dtype, prediction.dtype)
        level, next_level = self.levels[step_index], self.levels[step_index + 1]
        length = max(self.orders) + 1
        known = self.estimates(prediction, latents, level, of_noise=self.of_noise, length=length, as_one=True)
        if self.begun and step_index - 1 not in self.uncorrected:
            start, order = self.begun[0]
            used = known[: order + 1]
            scale, weights = self._weights([level for level, _ in used[1:]], level, corrects=True)
            latents = combine(*stepped(scale, start, weights, used))
        order = min(self.orders[step_index], len(known))
        self.begun[:] = [(latents, order)]
        if self.predictor is not None:
            return self.predictor.step(prediction, step_index, latents, generator=generator).to(dtype)
        scale, weights = self._weights([level for level, _ in known[:order]], next_level)
        return combine(*stepped(scale, latents, weights, known[:order])).to(dtype)

    def _weights(self, levels: list[Level], target: Level, corrects: bool = False) -> tuple[float, list[float]]:
        """Weights of the latents at the newest of the levels, and of the estimates at all of them.

        Args:
            corrects: the first weight is that of an estimate at the target.
        """
        start, gain = levels[0], target.log_snr - levels[0].log_snr
        if self.of_noise:
            scale, base, exponent = target.alpha / start.alpha, target.sigma, gain
        else:
            scale, base, exponent = target.sigma / start.sigma, target.alpha, -gain
        if gain == 0:  # nowhere to go
            return 1.0, [0.0] * (len(levels) + corrects)
        grown = math.expm1(exponent)
        ratios = [(level.log_snr - start.log_snr) / gain for level in levels[1:]]
        shares = self._shares(ratios, exponent, corrects)
        weights = [-base * (exponent if self.is_bh1 else grown) * share for share in shares]  # of the differences
        at_target = weights.pop() if corrects else 0.0
        slopes = [weight / ratio for weight, ratio in zip(weights, ratios, strict=True)]
        at_start = -base * grown - at_target - sum(slopes)
        return scale, [at_target, at_start, *slopes] if corrects else [at_start, *slopes]

    def _shares(self, ratios: list[float], exponent: float, corrects: bool) -> list[float]:
        """How far each difference counts (equation 5): the integrals of as many powers are exact."""
        if len(ratios) + corrects < 2:
            return [0.5] * (len(ratios) + corrects)
        nodes = np.array([*ratios, 1.0] if corrects else ratios)
        integral = math.expm1(exponent) / exponent - 1
        scale = exponent if self.is_bh1 else math.expm1(exponent)
        integrals = []
        for power in range(1, len(nodes) + 1):
            integrals.append(integral * math.factorial(power) / scale)
            integral = integral / exponent - 1 / math.factorial(power + 1)
        shares: list[float] = np.linalg.solve(np.vander(nodes, increasing=True).T, np.array(integrals)).tolist()
        return shares


class UniPCMultistepScheduler(MultistepScheduler):
    """Settings of UniPC.

    Args:
        predict_x0: whether estimates of the clean latents or of the noise are interpolated.
        solver_type: the function of the step size that differences are weighed by; "bh1" for few steps, unguided.
        lower_order_final: the last steps are of lower order. A step to no noise always is of first order.
        disable_corrector: steps that are left as predicted; the first ones, if guidance is strong.
        solver_p: another scheduler, which takes the place of the predictor.
        use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas: respace the levels; at most one.
        sigma_min, sigma_max: bounds of respaced levels, instead of the training's.
        shift_terminal: the last noise level of a flow before the end.

    The others are those of `DPMSolverMultistepScheduler`.
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
        predict_x0: bool = True,
        solver_type: Literal["bh1", "bh2"] = "bh2",
        lower_order_final: bool = True,
        disable_corrector: list[int] = [],  # noqa: B006  (never changed; the reference's signature)
        solver_p: Scheduler | None = None,
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        use_beta_sigmas: bool | None = False,
        use_flow_sigmas: bool | None = False,
        flow_shift: float | None = 1.0,
        timestep_spacing: Literal["linspace", "leading", "trailing"] = "linspace",
        steps_offset: int = 0,
        final_sigmas_type: Literal["zero", "sigma_min"] | None = "zero",
        rescale_betas_zero_snr: bool = False,
        use_dynamic_shifting: bool = False,
        time_shift_type: Literal["exponential", "linear"] = "exponential",
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        shift_terminal: float | None = None,
    ) -> None:
        self._solver_type = "bh2" if solver_type in _FOREIGN_TYPES else solver_type
        check_choice("solver_type", self._solver_type, ("bh1", "bh2"))
        if shift_terminal is not None and not use_flow_sigmas:
            raise ValueError("shift_terminal is a level of a flow; set use_flow_sigmas=True, or leave it out.")
        if not predict_x0 and final_sigmas_type == "zero":
            raise ValueError("predict_x0=False can't end at no noise; use final_sigmas_type='sigma_min'.")
        self._train()

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        sigmas: Numbers | None = None,
        mu: float | None = None,
    ) -> UniPCRun:
        """The schedule and solver of one generation.

        Args:
            sigmas: levels of a flow, from 1 down, still to be shifted.
            mu: their shift, or its logarithm, with use_dynamic_shifting.
        """
        config = self.config
        visited, levels = self._schedule(num_inference_steps, sigmas=sigmas, mu=mu)
        num_steps = len(visited)
        orders = [config.solver_order] * num_steps
        if config.lower_order_final:
            orders = [min(config.solver_order, num_steps - index) for index in range(num_steps)]
        if config.final_sigmas_type == "zero":
            orders[-1] = 1
        predictor = None if config.solver_p is None else config.solver_p.start(num_steps)
        run: UniPCRun = self._run(
            UniPCRun,
            visited,
            levels,
            None,
            not config.predict_x0,
            self._solver_type == "bh1",
            tuple(orders),
            frozenset(config.disable_corrector),
            predictor,
        )
        return run

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: Numbers | None = None,
        mu: float | None = None,
    ) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`."""
        self._set(device, num_inference_steps=None if sigmas is not None else num_inference_steps, sigmas=sigmas, mu=mu)

    def step(
        self, model_output: Tensor, timestep: int | Tensor, sample: Tensor, return_dict: bool = True
    ) -> SchedulerOutput | tuple[Tensor]:
        """One step of the held run; the first one is found by its timestep."""
        return self._stepped(model_output, timestep, sample, return_dict)

    def _shift(self, mu: float | None) -> float:
        if mu is None and self.config.use_dynamic_shifting:
            raise ValueError("a scheduler with use_dynamic_shifting needs mu.")
        return super()._shift(mu)

    def _flow_levels(self, num_steps: int, given: Levels | None, mu: float | None) -> Levels:
        """Shares of noise, shifted, from just below 1."""
        levels = np.linspace(1, 1 / len(self), num_steps + 1)[:-1] if given is None else given
        levels = shift_levels(levels, self._shift(mu))
        if self.config.shift_terminal:
            levels = stretch_to_terminal(levels, self.config.shift_terminal)
        levels[0] = min(levels[0], 1 - 1e-6)  # with no signal at all, the first step would have no direction
        return levels
