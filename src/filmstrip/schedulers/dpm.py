"""DPM-Solver and DPM-Solver++, as ODE and as SDE, over several steps (arXiv:2206.00927, arXiv:2211.01095)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.base import SchedulerOutput
from filmstrip.schedulers.multistep import (
    MultistepRun,
    MultistepScheduler,
    MultistepSettings,
    Ordered,
    lowered,
    stepped,
)
from filmstrip.schedulers.prediction import Level, combine
from filmstrip.schedulers.schedule import Numbers, exponential_integrals, interpolation_weights
from filmstrip.schedulers.settings import FinalLevel, Settings, Spaced, WithoutSignal, setting, taking


@dataclass(frozen=True, eq=False, kw_only=True)
class Solving(Ordered):
    """How steps are made."""

    algorithm_type: Literal["dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"] = setting(
        'whether clean latents ("++") or noise is interpolated, and with fresh noise ("sde-").', "dpmsolver++"
    )
    solver_type: Literal["midpoint", "heun"] = setting("how a step of second order weighs the slope.", "midpoint")

    foreign: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "algorithm_type": ("deis", "data_prediction", "noise_prediction"),
        "solver_type": ("logrho", "bh1", "bh2"),
    }

    def __post_init__(self) -> None:
        if not 1 <= self.solver_order <= 3:
            raise ValueError(f"solver_order must be 1, 2 or 3, got {self.solver_order}.")
        super().__post_init__()


@dataclass(frozen=True, eq=False, kw_only=True)
class EndedByEuler(Settings):
    """The order of the last step."""

    euler_at_final: bool = setting("the last step is of first order.", False)


@dataclass(frozen=True, eq=False, kw_only=True)
class DPMSolverSettings(Solving, MultistepSettings):
    """Settings of both kinds."""

    final_sigmas_type: FinalLevel = setting("whether runs end at no noise or at the training's lowest level.", "zero")
    lambda_min_clipped: float = setting("lowest logarithm of signal to noise at which runs may begin.", -math.inf)
    variance_type: str | None = setting(
        '"learned" networks predict a variance too, which this solver does not need.', None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        algorithm = self.own("algorithm_type")
        if algorithm == "sde-dpmsolver" and self.solver_order == 3:
            raise ValueError(
                "sde-dpmsolver is of order 1 or 2; use solver_order=2 or algorithm_type='sde-dpmsolver++'."
            )
        if not algorithm.endswith("++") and self.final_sigmas_type == "zero":
            raise ValueError(
                f"algorithm_type={algorithm!r} can't end at no noise; use final_sigmas_type='sigma_min' or"
                f" algorithm_type='{algorithm}++'."
            )


class Move(NamedTuple):
    """The way from one level to another: what is exact, and how the estimate and its derivatives are weighed."""

    scale: float  # of the latents
    gain: float  # in the logarithm of signal to noise
    base: float
    exponent: float
    fresh: float  # of new noise
    is_sde: bool

    @classmethod
    def between(cls, level: Level, next_level: Level, *, of_noise: bool, tau: float = 0.0) -> Move:
        """The way by estimates of the noise or of the clean latents.

        Args:
            tau: how stochastic it is: 0 for the ODE, 1 for the SDE of the training, others in proportion
                (arXiv:2309.05019).
        """
        gain = next_level.log_snr - level.log_snr
        spread = tau**2 and tau**2 * gain  # of no end, the way to no noise has none with tau = 0
        if of_noise:
            scale, base, exponent = next_level.alpha / level.alpha, (1 + tau**2) * next_level.sigma, gain
            fresh = next_level.sigma * (tau and tau * math.sqrt(max(math.expm1(2 * gain), 0)))
        else:
            scale, base, exponent = next_level.sigma / level.sigma * math.exp(-spread), next_level.alpha, -gain - spread
            fresh = next_level.sigma * math.sqrt(max(-math.expm1(-2 * spread), 0))
        return cls(scale, gain, base, exponent, fresh, tau > 0)

    @classmethod
    def of(cls, algorithm: str, level: Level, next_level: Level) -> Move:
        """The way that an algorithm goes."""
        is_sde, of_noise = algorithm.startswith("sde"), not algorithm.endswith("++")
        return cls.between(level, next_level, of_noise=of_noise, tau=float(is_sde))

    @property
    def is_first_order(self) -> bool:
        """Whether slopes have no weight: without a way, or all the way to no noise."""
        return not self.exponent or math.isinf(self.exponent)

    @property
    def zeroth(self) -> float:
        """Weight of the estimate."""
        return -self.base * math.expm1(self.exponent)

    @property
    def halfway(self) -> float:
        """Weight of the slope, as if it were that of the middle."""
        return 0.0 if self.is_first_order else self.zeroth / 2

    @property
    def first(self) -> float:
        """Weight of the slope."""
        if self.is_first_order:
            return 0.0
        return -self.base * self.exponent * exponential_integrals(self.exponent, 2)[1]

    @property
    def second(self) -> float:
        """Weight of the curvature."""
        if self.is_first_order:
            return 0.0
        # With noise, the reference has the other sign than the integral.
        return -self.base * (exponential_integrals(self.exponent, 2)[1] - (-0.5 if self.is_sde else 0.5))

    def interpolated(self, nodes: Sequence[float], *, is_even: bool = False) -> list[float]:
        """Weights of estimates, by the polynomial through them.

        Args:
            nodes: where they are, in the logarithm of signal to noise from the beginning of the way on.
            is_even: weigh the slope of two estimates as if it counted alike on all of the way.
        """
        integrals = [self.zeroth]
        for power, integral in enumerate(exponential_integrals(self.exponent, len(nodes))):
            if power > 0:
                weight = 0.5 if is_even else math.factorial(power) * integral
                integrals.append(-self.base * self.exponent * self.gain**power * weight)
        return interpolation_weights(nodes, integrals)


@dataclass(frozen=True, eq=False, kw_only=True)
class DPMSolverRun(MultistepRun):
    """The steps of one generation, from the estimates of up to three steps."""

    algorithm: str = "dpmsolver++"
    is_midpoint: bool = True

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
        of_noise = not self.algorithm.endswith("++")
        known = self.estimates(prediction, step_index, latents, of_noise=of_noise)
        move, start, weights = self._weights(latents, self.levels[step_index + 1], [level for level, _ in known])
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
    move = Move.of(algorithm, levels[0], next_level)
    if len(levels) == 1 or next_level == levels[0]:
        return move, [move.zeroth] + [0.0] * (len(levels) - 1)
    ratio = (levels[0].log_snr - levels[1].log_snr) / move.gain
    if len(levels) == 2:
        slope = (move.halfway if is_midpoint else move.first) / ratio
        return move, [move.zeroth + slope, -slope]
    earlier_ratio = (levels[1].log_snr - levels[2].log_snr) / move.gain
    bend = (move.first * ratio + move.second) / (ratio + earlier_ratio)
    slope, earlier = (move.first + bend) / ratio, bend / earlier_ratio
    return move, [move.zeroth + slope, -slope - earlier, earlier]


def multistep_orders(config: Mapping[str, Any], num_steps: int) -> tuple[int, ...]:
    """The order of each step over several ones."""
    orders = [config["solver_order"]] * num_steps
    if config["euler_at_final"] or config["final_sigmas_type"] == "zero":
        orders[-1] = 1
    return lowered(orders, config)


class DPMSolverScheduler(MultistepScheduler[DPMSolverRun]):
    """What both kinds have in common."""

    def _prepare(self, settings: DPMSolverSettings) -> None:
        self._algorithm, self._solver_type = settings.own("algorithm_type"), settings.own("solver_type")
        self._train()

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        sigmas: Numbers | None = None,
        mu: float | None = None,
        generator: Generators = None,
    ) -> DPMSolverRun:
        visited, levels = self._schedule(num_inference_steps, timesteps, sigmas, mu)
        return self._run(
            visited,
            levels,
            generator=generator,
            algorithm=self._algorithm,
            is_midpoint=self._solver_type == "midpoint",
            orders=self._orders(len(visited)),
        )

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


@dataclass(frozen=True, eq=False, kw_only=True)
class DPMSolverMultistepSettings(EndedByEuler, Spaced, WithoutSignal, DPMSolverSettings):
    """Settings of DPM-Solver over several steps."""

    use_lu_lambdas: bool | None = setting("respace the noise levels evenly in the logarithm of signal to noise.", False)


class DPMSolverMultistepScheduler(DPMSolverScheduler):
    """Settings of DPM-Solver over several steps."""

    _run_type = DPMSolverRun

    @taking(DPMSolverMultistepSettings)
    def __init__(self, settings: DPMSolverMultistepSettings) -> None:
        self._prepare(settings)

    def step(  # type: ignore[override]  # the reference has return_dict last
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
        return multistep_orders(self.config, num_steps)
