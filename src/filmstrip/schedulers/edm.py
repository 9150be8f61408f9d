"""Solvers of networks that were trained with the preconditioning of EDM (arXiv:2206.00364, table 1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.base import SchedulerOutput
from filmstrip.schedulers.dpm import DPMSolverRun, EndedByEuler, Solving, multistep_orders
from filmstrip.schedulers.euler import EulerLoop, EulerRun
from filmstrip.schedulers.exploding import ExplodingLoop, timesteps_of_logarithms
from filmstrip.schedulers.prediction import Estimator, Level
from filmstrip.schedulers.runs import Run
from filmstrip.schedulers.schedule import (
    Levels,
    Numbers,
    exponential_levels,
    falling_levels,
    karras_levels,
    number_of_steps,
)
from filmstrip.schedulers.settings import FinalLevel, Settings, Thresholded, setting, taking

RunType = TypeVar("RunType", bound=Run)


@dataclass(frozen=True, eq=False)
class EDMSettings(Settings):
    """Noise levels and the preconditioning."""

    sigma_min: float = setting("the lowest noise level.", 0.002)
    sigma_max: float = setting("the highest one.", 80.0)
    sigma_data: float = setting("standard deviation of clean latents that the network was preconditioned with.", 0.5)
    sigma_schedule: Literal["karras", "exponential"] = setting(
        "whether roots or logarithms of the noise levels are evenly spaced.", "karras"
    )
    num_train_timesteps: int = setting("length of the schedule that is shown before one is set.", 1000)
    prediction_type: Literal["epsilon", "v_prediction"] = setting("the sign of what the network predicts.", "epsilon")
    rho: float = setting("which roots.", 7.0)
    _: KW_ONLY
    final_sigmas_type: FinalLevel = setting("whether runs end at no noise or at their lowest level.", "zero")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma_min <= self.sigma_max:
            raise ValueError(
                f"sigma_min must be above 0 and at most sigma_max, got {self.sigma_min:g} and {self.sigma_max:g}."
            )


class EDMRun(Run):
    """Latents as `clean + sigma * noise`, which the network sees at unit variance."""

    levels: Any  # sigmas, or levels of them
    estimator: Estimator

    def scale_input(self, latents: Tensor, step_index: int) -> Tensor:
        """The latents at unit variance."""
        return latents * _input_weight(self.noise_level(step_index).sigma, self.estimator)


class EDMScheduler(ExplodingLoop[Any], Generic[RunType]):
    """Schedules of sigmas that were not trained as a table, and the preconditioning."""

    takes_whole_numbers = False
    is_preconditioned = True
    _held: RunType
    _estimator: Estimator

    @classmethod
    def _understood(cls, config: Mapping[str, Any], accepted: Collection[str]) -> dict[str, Any]:
        said = super()._understood(config, accepted)
        # To others, null means the ends of a table; here there is none.
        return {name: value for name, value in said.items() if value is not None or name not in accepted}

    @property
    def init_noise_sigma(self) -> float:  # type: ignore[override]  # as in the reference
        """Standard deviation of the noise that runs start from."""
        return float((self.config.sigma_max**2 + 1) ** 0.5)

    def precondition_inputs(self, sample: Tensor, sigma: float | Tensor) -> Tensor:
        """Latents as the network sees them."""
        return sample * _input_weight(float(sigma), self._estimator)

    def precondition_noise(self, sigma: float | Tensor) -> Tensor:
        """What the network is fed as the timestep."""
        return 0.25 * torch.as_tensor(sigma).reshape(-1 if not isinstance(sigma, Tensor) else sigma.shape).log()

    def precondition_outputs(self, sample: Tensor, model_output: Tensor, sigma: float | Tensor) -> Tensor:
        """The clean latents, from the latents and what the network predicted for them."""
        plain = Estimator(self._estimator.prediction_type, data_std=self._estimator.data_std)
        return plain.clean(model_output, sample, Level(1.0, float(sigma)))

    def _schedule(
        self, num_inference_steps: int | None, sigmas: Numbers | None = None
    ) -> tuple[Tensor, Tensor]:  # (num_steps,), (num_steps + 1,)
        """Timesteps and sigmas of a run, the last sigma included."""
        config, given = self.config, falling_levels("sigmas", sigmas, np.inf)
        num_steps = number_of_steps(num_inference_steps, given, None)
        if given is not None:
            levels = given
        elif config.sigma_schedule == "karras":
            levels = karras_levels(config.sigma_max, config.sigma_min, num_steps, config.rho)
        else:
            levels = exponential_levels(config.sigma_max, config.sigma_min, num_steps)
        if levels[-1] == 0:
            raise ValueError("sigmas must be above 0, since the network is fed their logarithms; leave out the last.")
        lowest = config.sigma_min if given is None else levels[-1]
        narrow: Levels = np.append(levels, lowest if config.final_sigmas_type == "sigma_min" else 0.0)
        return (
            torch.from_numpy(timesteps_of_logarithms(levels).astype(np.float32)),
            torch.from_numpy(narrow.astype(np.float32)),
        )


def _input_weight(sigma: float, estimator: Estimator) -> float:
    assert estimator.data_std is not None
    return float((sigma**2 + estimator.data_std**2) ** -0.5)


@dataclass(frozen=True, eq=False)
class EDMEulerRun(EDMRun, EulerRun):
    """Euler steps, towards which noise can be added before each (churn)."""

    _predicts_churned = True


class EDMEulerScheduler(EDMScheduler[EDMEulerRun], EulerLoop):
    """Settings of Euler sampling."""

    @taking(EDMSettings)
    def __init__(self, settings: EDMSettings) -> None:
        self._estimator = Estimator.of(self.config)
        self._hold(self.start(settings.num_train_timesteps + 1))

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        sigmas: Numbers | None = None,
        generator: Generators = None,
    ) -> EDMEulerRun:
        """The schedule and solver of one generation; see `Scheduler.start`.

        Args:
            sigmas: noise levels instead; the last one, which the settings name, is left out.
        """
        timesteps, levels = self._schedule(num_inference_steps, sigmas)
        first, called = self.init_noise_sigma, tuple(levels.tolist())
        return EDMEulerRun(timesteps, levels, called, first, estimator=self._estimator, generator=generator)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: Numbers | None = None,
    ) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`."""
        self._show(self.start(num_inference_steps, sigmas=sigmas), device)


@dataclass(frozen=True, eq=False, kw_only=True)
class EDMDPMSolverRun(EDMRun, DPMSolverRun):
    """Steps of DPM-Solver++, from the estimates of up to three steps."""

    init_noise_sigma: float

    def _noise_dtype(self, latents: Tensor, prediction: Tensor) -> torch.dtype:
        return torch.promote_types(latents.dtype, prediction.dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class EDMDPMSolverSettings(EndedByEuler, Solving, Thresholded, EDMSettings):
    """Settings of DPM-Solver++ over several steps."""

    algorithm_type: Literal["dpmsolver++", "sde-dpmsolver++"] = setting(
        'whether fresh noise is added ("sde-").', "dpmsolver++"
    )

    foreign: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **Solving.foreign,
        "algorithm_type": (*Solving.foreign["algorithm_type"], "dpmsolver", "sde-dpmsolver"),
    }


class EDMDPMSolverMultistepScheduler(EDMScheduler[EDMDPMSolverRun]):
    """Settings of DPM-Solver++ over several steps."""

    begins_anywhere = True

    @taking(EDMDPMSolverSettings)
    def __init__(self, settings: EDMDPMSolverSettings) -> None:
        self._estimator = Estimator.of(self.config)
        self._algorithm, self._solver_type = settings.own("algorithm_type"), settings.own("solver_type")
        self._hold(self.start(settings.num_train_timesteps))

    def start(self, num_inference_steps: int | None = None, *, generator: Generators = None) -> EDMDPMSolverRun:
        timesteps, sigmas = self._schedule(num_inference_steps)
        return EDMDPMSolverRun(
            timesteps,
            sigmas,
            tuple(Level(1.0, sigma) for sigma in sigmas.tolist()),
            estimator=self._estimator,
            generator=generator,
            algorithm=self._algorithm,
            is_midpoint=self._solver_type == "midpoint",
            orders=multistep_orders(self.config, len(timesteps)),
            init_noise_sigma=self.init_noise_sigma,
        )

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """One step of the held run; the first one is found by its timestep."""
        self._num_steps()
        latents = self._held.step(model_output, self._next_index(timestep), sample, generator=generator)
        return SchedulerOutput(latents) if return_dict else (latents,)
