"""DPM-Solver and DPM-Solver++, as ODE and as SDE, over several steps (arXiv:2206.00927, arXiv:2211.01095)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.base import SchedulerOutput
from filmstrip.schedulers.multistep import MultistepRun, MultistepScheduler, stepped
from filmstrip.schedulers.prediction import Level, combine
from filmstrip.schedulers.schedule import Numbers, check_choice

ALGORITHMS = ("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++")
# Settings of other solvers, under the same name, that stand for this solver's own default.
FOREIGN_ALGORITHMS, FOREIGN_TYPES = ("deis",), ("logrho", "bh1", "bh2")


class Move(NamedTuple):
    """The way from one level to another: what is exact, and how the estimate and its derivatives are weighed."""

    scale: float  # of the latents
    zeroth: float
    halfway: float  # weighs the slope as if it were that of the middle
    first: float
    second: float
    fresh: float  # of new noise

    @classmethod
    def between(cls, level: Level, next_level: Level, algorithm: str) -> Move:
        """The exponential integrals of an algorithm."""
        gain = next_level.log_snr - level.log_snr
        is_sde = algorithm.startswith("sde")
        fresh = 0.0
        if algorithm.endswith("++"):  # estimates are of the clean latents
            scale, base, exponent = next_level.sigma / level.sigma, next_level.alpha, -gain
            if is_sde:
                scale, exponent = scale * math.exp(-gain), -2 * gain
                fresh = next_level.sigma * math.sqrt(max(-math.expm1(exponent), 0))
        else:  # of the noise
            scale, base, exponent = next_level.alpha / level.alpha, next_level.sigma, gain
            if is_sde:
                base, fresh = 2 * base, next_level.sigma * math.sqrt(max(math.expm1(2 * gain), 0))
        grown = math.expm1(exponent)
        if not exponent or math.isinf(exponent):  # without a way, or all the way to no noise: of first order only
            return cls(scale, -base * grown, 0.0, 0.0, 0.0, fresh)
        # With noise, the reference has the other sign than the integral.
        half = -0.5 if is_sde else 0.5
        first, second = grown / exponent - 1, (grown - exponent) / exponent**2 - half
        return cls(scale, -base * grown, -base * grown / 2, -base * first, -base * second, fresh)


@dataclass(frozen=True, eq=False)
class DPMSolverRun(MultistepRun):
    """The steps of one generation, from the estimates of up to three steps."""

    algorithm: str = "dpmsolver++"
    is_midpoint: bool = True
    orders: tuple[int, ...] = ()  # of each step, if there are enough estimates

    def step(
        self,
        prediction: Tensor,
        step_index: int,
        latents: Tensor,
        *,
        generator: Generators = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """The latents after one step, computed in float32 or wider.

        Args:
            generator: of the noise that the SDE solvers add; the run's own if None.
            noise: used instead.
        """
        level, next_level = self.levels[step_index], self.levels[step_index + 1]
        if prediction.shape != latents.shape:
            prediction = prediction[:, : latents.shape[1]]  # a learned variance comes behind
        of_noise = not self.algorithm.endswith("++")
        known = self.estimates(prediction, latents, level, of_noise=of_noise, length=max(self.orders))
        known = known[: self.orders[step_index]]
        move, start, weights = self._weights(latents, next_level, [level for level, _ in known])
        terms = stepped(move.scale, start, weights, known)
        if move.fresh > 0:
            if noise is None:
                generator = self.generator if generator is None else generator
                noise = draw_noise(latents.shape, generator, latents.device, self._noise_dtype(latents, prediction))
            terms.append((move.fresh, noise))
        return combine(*terms).to(torch.promote_types(latents.dtype, prediction.dtype))

    def _noise_dtype(self, latents: Tensor, prediction: Tensor) -> torch.dtype:
        return torch.float32

    def _weights(self, latents: Tensor, next_level: Level, levels: list[Level]) -> tuple[Move, Tensor, list[float]]:
        """The step, the latents that it starts from, and the weights of the estimates at the levels."""
        move, weights = extrapolated(levels, next_level, self.algorithm, self.is_midpoint)
        return move, latents, weights


def extrapolated(
    levels: list[Level], next_level: Level, algorithm: str, is_midpoint: bool = True
) -> tuple[Move, list[float]]:
    """The step from the first level and the estimates' weights, if the estimate goes on as it did over the levels."""
    move = Move.between(levels[0], next_level, algorithm)
    if len(levels) == 1 or next_level == levels[0]:
        return move, [move.zeroth] + [0.0] * (len(levels) - 1)
    gain = next_level.log_snr - levels[0].log_snr
    ratio = (levels[0].log_snr - levels[1].log_snr) / gain
    if len(levels) == 2:
        slope = (move.halfway if is_midpoint else move.first) / ratio
        return move, [move.zeroth + slope, -slope]
    earlier_ratio = (levels[1].log_snr - levels[2].log_snr) / gain
    bend = (move.first * ratio + move.second) / (ratio + earlier_ratio)
    slope, earlier = (move.first + bend) / ratio, bend / earlier_ratio
    return move, [move.zeroth + slope, -slope - earlier, earlier]


class DPMSolverScheduler(MultistepScheduler):
    """What the settings of both kinds have in common."""

    _foreign: ClassVar[tuple[str, ...]] = FOREIGN_ALGORITHMS
    _run_type: ClassVar[type[DPMSolverRun]]

    def _train(self) -> None:
        config = self.config
        self._algorithm = "dpmsolver++" if config.algorithm_type in self._foreign else config.algorithm_type
        check_choice("algorithm_type", self._algorithm, ALGORITHMS)
        self._solver_type = "midpoint" if config.solver_type in FOREIGN_TYPES else config.solver_type
        check_choice("solver_type", self._solver_type, ("midpoint", "heun"))
        if not 1 <= config.solver_order <= 3:
            raise ValueError(f"solver_order must be 1, 2 or 3, got {config.solver_order}.")
        if self._algorithm == "sde-dpmsolver" and config.solver_order == 3:
            raise ValueError(
                "sde-dpmsolver is of order 1 or 2; use solver_order=2 or algorithm_type='sde-dpmsolver++'."
            )
        if not self._algorithm.endswith("++") and config.final_sigmas_type == "zero":
            raise ValueError(
                f"algorithm_type={self._algorithm!r} can't end at no noise; use final_sigmas_type='sigma_min' or"
                f" algorithm_type='{self._algorithm}++'."
            )
        super()._train()

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        mu: float | None = None,
        generator: Generators = None,
    ) -> DPMSolverRun:
        """The schedule and solver of one generation.

        Args:
            timesteps: whole numbers from noise to clean, instead of evenly spaced ones.
            mu: logarithm of the shift of flow sigmas, with use_dynamic_shifting.
            generator: of the noise that the SDE solvers add.
        """
        visited, sigmas = self._schedule(num_inference_steps, timesteps, mu=mu)
        midpoint = self._solver_type == "midpoint"
        orders = self._orders(len(visited))
        run: DPMSolverRun = self._run(self._run_type, visited, sigmas, generator, self._algorithm, midpoint, orders)
        return run

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        mu: float | None = None,
        timesteps: Numbers | None = None,
    ) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`."""
        self._set(device, num_inference_steps=num_inference_steps, timesteps=timesteps, mu=mu)

    def _orders(self, num_steps: int) -> tuple[int, ...]:
        """The order of each step."""
        raise NotImplementedError


class DPMSolverMultistepScheduler(DPMSolverScheduler):
    """Settings of DPM-Solver over several steps.

    Args:
        num_train_timesteps: how many timesteps the network was trained with.
        beta_start, beta_end, beta_schedule: variance of the noise that each timestep adds.
        trained_betas: these variances themselves.
        solver_order: from how many estimates each step is made, 1 to 3.
        prediction_type: what the network predicts.
        thresholding, dynamic_thresholding_ratio, sample_max_value: bound the clean estimate by a quantile of itself.
        algorithm_type: whether clean latents ("++") or noise is interpolated, and with fresh noise ("sde-").
        solver_type: how a step of second order weighs the slope.
        lower_order_final: the last steps of runs with less than 15 are of lower order.
        euler_at_final: the last step is of first order.
        use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas, use_lu_lambdas: respace the levels; at most one.
        use_flow_sigmas, flow_shift: levels of a flow, `(1 - sigma) * clean + sigma * noise`, moved by the shift.
        final_sigmas_type: whether runs end at no noise or at the lowest level of the training.
        lambda_min_clipped: lowest logarithm of signal to noise at which runs may begin.
        variance_type: "learned" networks predict a variance too, which this solver does not need.
        timestep_spacing, steps_offset: how the timesteps of a run are spread over those of the training.
        rescale_betas_zero_snr: the last timestep of the training is all but pure noise.
        use_dynamic_shifting, time_shift_type: each run may bring its own flow shift as `mu`.
    """

    _run_type = DPMSolverRun

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
        algorithm_type: Literal["dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"] = "dpmsolver++",
        solver_type: Literal["midpoint", "heun"] = "midpoint",
        lower_order_final: bool = True,
        euler_at_final: bool = False,
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        use_beta_sigmas: bool | None = False,
        use_lu_lambdas: bool | None = False,
        use_flow_sigmas: bool | None = False,
        flow_shift: float | None = 1.0,
        final_sigmas_type: Literal["zero", "sigma_min"] | None = "zero",
        lambda_min_clipped: float = -math.inf,
        variance_type: str | None = None,
        timestep_spacing: Literal["linspace", "leading", "trailing"] = "linspace",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
        use_dynamic_shifting: bool = False,
        time_shift_type: Literal["exponential"] = "exponential",
    ) -> None:
        self._train()

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        generator: Generators = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """One step of the held run; the first one is found by its timestep.

        Args:
            variance_noise: used by the SDE solvers instead of noise from `generator`.
        """
        return self._stepped(model_output, timestep, sample, return_dict, generator=generator, noise=variance_noise)

    def _rounds_respaced(self) -> bool:
        config = self.config
        return bool((config.use_karras_sigmas or config.use_lu_lambdas) and config.beta_schedule != "squaredcos_cap_v2")

    def _orders(self, num_steps: int) -> tuple[int, ...]:
        orders = [self.config.solver_order] * num_steps
        if self.config.euler_at_final or self.config.final_sigmas_type == "zero":
            orders[-1] = 1
        return self._lowered(orders)
