"""SA-Solver: stochastic Adams steps, predicted and corrected at no further call of the network (arXiv:2309.05019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.base import SchedulerOutput
from filmstrip.schedulers.dpm import Move
from filmstrip.schedulers.multistep import Estimate, MultistepRun, MultistepScheduler, UnitOrFlow, stepped
from filmstrip.schedulers.prediction import combine
from filmstrip.schedulers.schedule import Numbers
from filmstrip.schedulers.settings import Respaced, Spaced, Thresholded, Trained, setting, taking


@dataclass(frozen=True, eq=False, kw_only=True)
class SASolverRun(MultistepRun):
    """The steps of one generation, each corrected, with the noise it had, once the network was called at its end."""

    corrector_orders: tuple[int, ...] = ()  # of each step, if there are enough estimates
    taus: tuple[float, ...] = ()  # how stochastic each step is
    of_noise: bool = False
    begun: list[tuple[Tensor, Tensor]] = field(default_factory=list, init=False, repr=False)  # latents, their noise

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        reach = max(*self.orders, *self.corrector_orders)
        known = self.estimates(prediction, step_index, latents, of_noise=self.of_noise, reach=reach)
        if self.begun:
            before = step_index - 1
            start, fresh = self.begun[0]
            latents = self._moved(before, start, fresh, known[: self.corrector_orders[before]])
        # As in the reference, steps without noise draw it too.
        fresh = draw_noise(latents.shape, generator, latents.device, prediction.dtype)
        self.begun[:] = [(latents, fresh)]
        return self._moved(step_index, latents, fresh, known[: self.orders[step_index]])

    def _moved(self, step_index: int, latents: Tensor, fresh: Tensor, known: list[Estimate]) -> Tensor:
        """The latents after a step, by estimates from before it, and of its end if it is corrected."""
        level, next_level = self.levels[step_index], self.levels[step_index + 1]
        move = Move.between(level, next_level, of_noise=self.of_noise, tau=self.taus[step_index])
        nodes = [known_at.log_snr - level.log_snr for known_at, _ in known]
        # For few steps the authors weigh the slope of two estimates as if there were no exponential.
        weights = move.interpolated(nodes, is_even=len(nodes) == 2 and not self.of_noise)
        return combine(*stepped(move.scale, latents, weights, known), (move.fresh, fresh))


@dataclass(frozen=True, eq=False, kw_only=True)
class SASolverSettings(Spaced, UnitOrFlow):
    """Settings of SA-Solver."""

    predictor_order: int = setting("from how many estimates each step is predicted, 1 to 4.", 2)
    corrector_order: int = setting("from how many it is corrected, that of its end included, 1 to 4.", 2)
    tau_func: Callable[[float], float] | None = setting(
        "how stochastic the step from a timestep is: 0 for the ODE, 1 for the SDE. It is 1 from 200 to 800 if None.",
        None,
    )
    algorithm_type: Literal["data_prediction", "noise_prediction"] = setting(
        "whether estimates of the clean latents or of the noise are interpolated.", "data_prediction"
    )
    lower_order_final: bool = setting("the last steps are of lower order.", True)
    lambda_min_clipped: float = setting("lowest logarithm of signal to noise at which runs may begin.", -float("inf"))
    variance_type: str | None = setting(
        '"learned" networks predict a variance too, which this solver does not need.', None
    )

    foreign: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "algorithm_type": ("deis", "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"),
    }
    known_elsewhere: ClassVar[Collection[str] | None] = (
        *(one.name for base in (Trained, Thresholded, Respaced, Spaced) for one in dataclasses.fields(base)),
        *("predictor_order", "corrector_order", "tau_func", "algorithm_type", "lower_order_final"),
        *("use_flow_sigmas", "flow_shift", "lambda_min_clipped", "variance_type"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("predictor_order", "corrector_order"):
            if not 1 <= getattr(self, name) <= 4:
                raise ValueError(f"{name} must be from 1 to 4, got {getattr(self, name)}.")
        if self.use_flow_sigmas and self.own("algorithm_type") == "noise_prediction":
            raise ValueError(
                "algorithm_type='noise_prediction' can't end at no noise, as flows do; use 'data_prediction'."
            )


class SASolverScheduler(MultistepScheduler[SASolverRun]):
    """Settings of SA-Solver, whose runs end above no noise, but for those of a flow."""

    _run_type = SASolverRun
    ends_with_last = True

    @taking(SASolverSettings)
    def __init__(self, settings: SASolverSettings) -> None:
        self._algorithm = settings.own("algorithm_type")
        self.tau_func = settings.tau_func or _in_the_middle
        self._train()

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        sigmas: Numbers | None = None,
        mu: float | None = None,
        generator: Generators = None,
    ) -> SASolverRun:
        config = self.config
        visited, levels = self._schedule(num_inference_steps, timesteps, sigmas, mu)
        left = range(len(visited), 0, -1)
        orders, corrector_orders = [config.predictor_order] * len(left), [config.corrector_order] * len(left)
        if config.lower_order_final:
            orders = [min(config.predictor_order, steps) for steps in left]
            corrector_orders = [min(config.corrector_order, steps + 1) for steps in left]
        if not self._ends_above_zero():
            orders[-1] = 1
        return self._run(
            visited,
            levels,
            generator=generator,
            orders=tuple(orders),
            corrector_orders=tuple(corrector_orders),
            taus=tuple(float(self.tau_func(timestep)) for timestep in visited.tolist()),
            of_noise=self._algorithm == "noise_prediction",
        )

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`."""
        self._set(device, num_inference_steps=num_inference_steps)

    def step(  # type: ignore[override]  # the reference has return_dict last
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """One step of the held run; the first one is found by its timestep."""
        return self._stepped(model_output, timestep, sample, return_dict, generator=generator)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Clean latents as noisy as they are at each of the timesteps, (batch,); of a flow, at the held run's."""
        if self.is_flow:
            return super().add_noise(original_samples, noise, timesteps)
        return self._noised(original_samples, noise, timesteps)

    def _ends_above_zero(self) -> bool:
        return not self.is_flow


def _in_the_middle(timestep: float) -> float:
    """The authors' choice for most networks."""
    return float(200 <= timestep <= 800)
