"""UniPC: a predictor, and a corrector that costs no call of the network (arXiv:2302.04867)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.base import Scheduler
from filmstrip.schedulers.multistep import MultistepRun, MultistepScheduler, MultistepSettings, stepped
from filmstrip.schedulers.prediction import Level, combine
from filmstrip.schedulers.runs import Run
from filmstrip.schedulers.schedule import Levels, Numbers, exponential_integrals
from filmstrip.schedulers.settings import Bounded, FinalLevel, Spaced, WithoutSignal, setting, taking


@dataclass(frozen=True, eq=False, kw_only=True)
class UniPCRun(MultistepRun):
    """The steps of one generation, each corrected once the network was called at its end."""

    of_noise: bool = False
    is_bh1: bool = False
    uncorrected: frozenset[int] = frozenset()  # steps that are left as predicted
    predictor: Run | None = None  # takes the steps instead
    begun: list[tuple[Tensor, int]] = field(default_factory=list, init=False, repr=False)  # the step before, its order

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        level, next_level = self.levels[step_index], self.levels[step_index + 1]
        known = self.estimates(prediction, step_index, latents, of_noise=self.of_noise, reach=max(self.orders) + 1)
        if self.begun and step_index - 1 not in self.uncorrected:
            start, order = self.begun[0]
            used = known[: order + 1]
            scale, weights = self._weights([level for level, _ in used[1:]], level, corrects=True)
            latents = combine(*stepped(scale, start, weights, used))
        order = min(self.orders[step_index], len(known))
        self.begun[:] = [(latents, order)]
        if self.predictor is not None:
            return self.predictor.step(prediction, step_index, latents, generator=generator)
        scale, weights = self._weights([level for level, _ in known[:order]], next_level)
        return combine(*stepped(scale, latents, weights, known[:order]))

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
        scale = exponent if self.is_bh1 else math.expm1(exponent)
        integrals = [
            exponent * integral * math.factorial(power) / scale
            for power, integral in enumerate(exponential_integrals(exponent, len(nodes) + 1))
        ][1:]
        shares: list[float] = np.linalg.solve(np.vander(nodes, increasing=True).T, np.array(integrals)).tolist()
        return shares


@dataclass(frozen=True, eq=False, kw_only=True)
class UniPCSettings(Bounded, Spaced, WithoutSignal, MultistepSettings):
    """Settings of UniPC."""

    predict_x0: bool = setting("whether estimates of the clean latents or of the noise are interpolated.", True)
    solver_type: Literal["bh1", "bh2"] = setting(
        'the function of the step size that differences are weighed by; "bh1" for few steps, unguided.', "bh2"
    )
    lower_order_final: bool = setting(
        "the last steps are of lower order. A step to no noise always is of first order.", True
    )
    disable_corrector: Sequence[int] = setting(
        "steps that are left as predicted; the first ones, if guidance is strong.", ()
    )
    solver_p: Scheduler | None = setting("another scheduler, which takes the place of the predictor.", None)
    final_sigmas_type: FinalLevel = setting("whether runs end at no noise or at the lowest level.", "zero")
    shift_terminal: float | None = setting("the last noise level of a flow before the end.", None)

    foreign: ClassVar[Mapping[str, tuple[str, ...]]] = {"solver_type": ("midpoint", "heun", "logrho")}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.predict_x0 and self.final_sigmas_type == "zero":
            raise ValueError("predict_x0=False can't end at no noise; use final_sigmas_type='sigma_min'.")


class UniPCMultistepScheduler(MultistepScheduler[UniPCRun]):
    """Settings of UniPC."""

    _run_type = UniPCRun
    ends_with_last = True

    @taking(UniPCSettings)
    def __init__(self, settings: UniPCSettings) -> None:
        self._solver_type = settings.own("solver_type")
        self._train()

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        sigmas: Numbers | None = None,
        mu: float | None = None,
    ) -> UniPCRun:
        config = self.config
        visited, levels = self._schedule(num_inference_steps, timesteps, sigmas, mu)
        num_steps = len(visited)
        orders = [config.solver_order] * num_steps
        if config.lower_order_final:
            orders = [min(config.solver_order, num_steps - index) for index in range(num_steps)]
        if config.final_sigmas_type == "zero":
            orders[-1] = 1
        predictor = None if config.solver_p is None else config.solver_p.start(num_steps)
        return self._run(
            visited,
            levels,
            of_noise=not config.predict_x0,
            is_bh1=self._solver_type == "bh1",
            orders=tuple(orders),
            uncorrected=frozenset(config.disable_corrector),
            predictor=predictor,
        )

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: Numbers | None = None,
        mu: float | None = None,
    ) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`."""
        self._set(device, num_inference_steps=None if sigmas is not None else num_inference_steps, sigmas=sigmas, mu=mu)

    def _shift(self, mu: float | None) -> float:
        if mu is None and self.config.use_dynamic_shifting:
            raise ValueError("a scheduler with use_dynamic_shifting needs mu.")
        return super()._shift(mu)

    def _even_levels(self, num_steps: int) -> Levels:
        return np.linspace(1, 1 / len(self), num_steps + 1)[:-1]
