"""What solvers share that see latents as `clean + sigma * noise`, after Karras et al. (arXiv:2206.00364)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.base import Scheduler, SigmaScheduler
from filmstrip.schedulers.diffusion import spaced_timesteps
from filmstrip.schedulers.discrete import DenoisedOutput
from filmstrip.schedulers.prediction import Level, Terms
from filmstrip.schedulers.runs import TrainedRun
from filmstrip.schedulers.schedule import Levels, Numbers, falling_levels, number_of_steps, respaced_levels
from filmstrip.schedulers.settings import OfNetwork, Respaced, Spaced, Trained

RunType = TypeVar("RunType", bound="ExplodingRun")


@dataclass(frozen=True, eq=False, kw_only=True)
class ExplodingSettings(Spaced, Trained):
    """Settings of solvers between sigmas."""

    prediction_type: OfNetwork = "epsilon"


@dataclass(frozen=True, eq=False)
class TwoCallSettings(Respaced, ExplodingSettings):
    """Settings of solvers that call the network twice for each step."""

    beta_start: float = 0.00085
    beta_end: float = 0.012


def timesteps_of_logarithms(sigmas: Levels) -> Levels:
    """What networks are fed that were trained at sigmas themselves (arXiv:2206.00364, table 1)."""
    return 0.25 * np.log(sigmas)


@dataclass(frozen=True, eq=False)
class ExplodingRun(TrainedRun):
    """The noise levels of one generation, whose latents grow with the noise."""

    sigmas: Tensor  # float32, on the CPU
    levels: tuple[float, ...]  # sigma at which the network is called, step for step, and the last one
    init_noise_sigma: float

    def noise_level(self, step_index: int) -> Level:
        return Level(1.0, float(self.sigmas[step_index]))

    def scale_input(self, latents: Tensor, step_index: int) -> Tensor:
        """The latents at unit variance."""
        return latents / (self.levels[step_index] ** 2 + 1) ** 0.5

    def denoised(self, prediction: Tensor, step_index: int, latents: Tensor) -> Tensor:
        """The estimate of the clean latents, in float32 or wider."""
        return self.estimator.clean(prediction, latents, Level(1.0, self.levels[step_index]))

    def slope(self, prediction: Tensor, step_index: int, latents: Tensor) -> Terms:
        """The change of latents with sigma: in `clean + sigma * noise`, the noise."""
        return self.estimator.noise_terms(prediction, latents, Level(1.0, self.levels[step_index]))


class ExplodingLoop(Scheduler, Generic[RunType]):
    """The calls of Diffusers' loops around runs in sigmas."""

    _held: RunType

    @property
    def init_noise_sigma(self) -> Tensor:
        """Standard deviation of the noise that the held run starts from."""
        return torch.tensor(self._held.init_noise_sigma)

    def scale_model_input(self, sample: Tensor, timestep: float | Tensor | None = None) -> Tensor:
        """The latents at unit variance, as the network wants to see them."""
        if timestep is None:
            raise ValueError("scale_model_input needs the timestep: how noisy latents are decides how they are scaled.")
        return self._held.scale_input(sample, self._due_index(timestep))

    def set_timesteps(self, num_inference_steps: int | None = None, device: str | torch.device | None = None) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`."""
        self._show(cast(RunType, self.start(num_inference_steps)), device)

    def _show(self, run: RunType, device: str | torch.device | None) -> None:
        self._hold(run, device)
        self._sigmas = run.sigmas
        self.num_inference_steps = (len(run.timesteps) + run.order - 1) // run.order

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Clean latents as noisy as the held run is at each of the timesteps, (batch,).

        Once a first step was set or made, that step's level is used instead of the timesteps'.
        """
        sigma = self._held.sigmas[self._indices(timesteps)]
        sigma = sigma.to(original_samples.device, noise.dtype).view(-1, *[1] * (original_samples.ndim - 1))
        return torch.addcmul(original_samples, noise, sigma)


class ExplodingScheduler(ExplodingLoop[RunType], SigmaScheduler[RunType]):
    """Schedules in sigmas, from a table of the training."""

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        generator: Generators = None,
    ) -> RunType:
        return self._run(*self._schedule(num_inference_steps, timesteps), generator)

    def _stepped(
        self, model_output: Tensor, timestep: float | Tensor, sample: Tensor, return_dict: bool, **more: Any
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """The held run's next step, and the clean estimate at its beginning."""
        index = self._next_index(timestep)
        denoised = self._held.denoised(model_output, index, sample).to(model_output.dtype)
        latents = self._held.step(model_output, index, sample, **more)
        return DenoisedOutput(latents, denoised) if return_dict else (latents, denoised)

    def _schedule(
        self,
        num_inference_steps: int | None,
        timesteps: Numbers | None = None,
        sigmas: Numbers | None = None,
    ) -> tuple[Levels, Levels]:
        """Timesteps and sigmas of a run, the last sigma included."""
        config, table = self.config, self._table
        if sigmas is not None:
            given = falling_levels("sigmas", sigmas, np.inf)
            assert given is not None
            if timesteps is not None or len(given) != (num_inference_steps or len(given) - 1) + 1:
                raise ValueError("sigmas are given without timesteps, the last level included; leave out the others.")
            return table.timesteps_of(given[:-1]), given
        visited = falling_levels("timesteps", timesteps, len(self) - 1)
        if visited is not None and self._respacing is not None:
            raise ValueError(
                f"timesteps can't be chosen with use_{self._respacing}_sigmas, which chooses them; leave out one."
            )
        num_steps = number_of_steps(num_inference_steps, None, visited)
        if visited is None:
            visited = spaced_timesteps(config.timestep_spacing, num_steps, len(self), config.steps_offset)
            visited = visited.astype(np.float32).astype(np.float64)
        levels = self._sigmas_at(visited)
        if self._respacing is not None:
            levels = respaced_levels(self._respacing, *self._ends(levels[0], levels[-1]), visited)
            visited = table.timesteps_of(levels)
        final = table.sigmas[0] if config.get("final_sigmas_type") == "sigma_min" else 0.0
        return visited, np.append(levels, final)

    def _sigmas_at(self, timesteps: Levels) -> Levels:
        return self._table.at(timesteps)

    def _run(
        self, timesteps: Levels, sigmas: Levels, generator: Generators = None, levels: Levels | None = None
    ) -> RunType:
        """The run over a schedule.

        Args:
            levels: sigmas at which the network is called, if they are not all of `sigmas`.
        """
        narrow = torch.from_numpy(sigmas.astype(np.float32))
        called = narrow if levels is None else torch.from_numpy(levels.astype(np.float32))
        highest = float(narrow.max())
        first = highest if self.config.timestep_spacing in ("linspace", "trailing") else (highest**2 + 1) ** 0.5
        visited = torch.from_numpy(timesteps.astype(np.float32))
        called_at = tuple(called.tolist())
        return self._run_type(visited, narrow, called_at, first, estimator=self._estimator, generator=generator)


class AncestralScheduler(ExplodingScheduler[RunType]):
    """Solvers that draw fresh noise at each step."""

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """One call of the held run; the first one is found by its timestep."""
        return self._stepped(model_output, timestep, sample, return_dict, generator=generator)


class TwoCallScheduler(ExplodingScheduler[RunType]):
    """Solvers that call the network twice for each step but the last, `2 * num_steps - 1` times in all."""

    order = 2

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        num_train_timesteps: int | None = None,
        timesteps: Numbers | None = None,
    ) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`.

        Args:
            num_train_timesteps: of the settings; another number is refused.
        """
        if num_train_timesteps not in (None, len(self)):
            raise ValueError(
                f"num_train_timesteps is a setting of the scheduler, {len(self)}, got {num_train_timesteps};"
                " leave it out."
            )
        self._show(self.start(num_inference_steps, timesteps=timesteps), device)

    def step(
        self, model_output: Tensor, timestep: float | Tensor, sample: Tensor, return_dict: bool = True
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """One call of the held run; the first one is found by its timestep."""
        return self._stepped(model_output, timestep, sample, return_dict)
