"""What solvers share that see latents as `clean + sigma * noise`, after Karras et al. (arXiv:2206.00364)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.base import TrainedScheduler
from filmstrip.schedulers.diffusion import SigmaTable, spaced_timesteps, trained_tables
from filmstrip.schedulers.discrete import DenoisedOutput
from filmstrip.schedulers.prediction import Estimator, Level, Terms, combine
from filmstrip.schedulers.schedule import (
    Levels,
    Numbers,
    falling_levels,
    number_of_steps,
    respaced_levels,
    respacing_of,
)

RunType = TypeVar("RunType", bound="ExplodingRun")

# What stands in for no signal at all, so that sigmas stay finite.
LEAST_SIGNAL = 2.0**-24


@dataclass(frozen=True, eq=False)
class ExplodingRun:
    """The noise levels of one generation, whose latents grow with the noise."""

    timesteps: Tensor  # (num_steps,), float32, on the CPU
    sigmas: Tensor  # float32, on the CPU
    levels: tuple[float, ...]  # sigma at which the network is called, step for step, and the last one
    init_noise_sigma: float
    estimator: Estimator
    generator: Generators = None

    order: ClassVar[int] = 1

    def scale_input(self, latents: Tensor, step_index: int) -> Tensor:
        """The latents at unit variance."""
        return latents / (self.levels[step_index] ** 2 + 1) ** 0.5

    def step(self, prediction: Tensor, step_index: int, latents: Tensor, *, generator: Generators = None) -> Tensor:
        """The latents after the step: the solver's part."""
        raise NotImplementedError

    def denoised(self, prediction: Tensor, step_index: int, latents: Tensor) -> Tensor:
        """The estimate of the clean latents, in float32 or wider."""
        return self.estimator.clean(prediction, latents, Level(1.0, self.levels[step_index]))

    def slope(self, prediction: Tensor, step_index: int, latents: Tensor) -> Terms:
        """The change of latents with sigma: in `clean + sigma * noise`, the noise."""
        return self.estimator.noise_terms(prediction, latents, Level(1.0, self.levels[step_index]))

    def add_noise(self, clean: Tensor, noise: Tensor, step_index: int) -> Tensor:
        """Clean latents as noisy as they are before this step."""
        noisy = combine((1.0, clean), (float(self.sigmas[step_index]), noise))
        return noisy.to(torch.promote_types(clean.dtype, noise.dtype))


class ExplodingScheduler(TrainedScheduler):
    """Tables of sigmas, and the calls of Diffusers' loops around them."""

    prediction_types: ClassVar[Sequence[str]] = ("epsilon", "sample", "v_prediction")

    _held: ExplodingRun

    def _train(self) -> None:
        self.betas, self.alphas_cumprod = trained_tables(self.config, LEAST_SIGNAL)
        self._table = SigmaTable.of(self.alphas_cumprod)
        self._respacing = respacing_of(self.config)
        self._estimator = Estimator.of(self.config, self.prediction_types)
        spaced_timesteps(self.config.timestep_spacing, 1, len(self))  # refuses an unknown spacing

    @property
    def init_noise_sigma(self) -> Tensor:
        """Standard deviation of the noise that the held run starts from."""
        return torch.tensor(self._held.init_noise_sigma)

    def start(self, num_inference_steps: int | None = None) -> ExplodingRun:
        """The schedule and solver of one generation."""
        raise NotImplementedError

    def scale_model_input(self, sample: Tensor, timestep: float | Tensor | None = None) -> Tensor:
        """The latents at unit variance, as the network wants to see them."""
        if timestep is None:
            raise ValueError("scale_model_input needs the timestep: how noisy latents are decides how they are scaled.")
        return self._held.scale_input(sample, self._due_index(timestep))

    def set_timesteps(self, num_inference_steps: int | None = None, device: str | torch.device | None = None) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`."""
        self._show(self.start(num_inference_steps), device)

    def _show(self, run: ExplodingRun, device: str | torch.device | None) -> None:
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
            first, last = config.get("sigma_max"), config.get("sigma_min")
            first, last = (float(levels[0]) if first is None else first), (float(levels[-1]) if last is None else last)
            levels = respaced_levels(self._respacing, first, last, visited)
            visited = table.timesteps_of(levels)
        final = table.sigmas[0] if config.get("final_sigmas_type") == "sigma_min" else 0.0
        return visited, np.append(levels, final)

    def _sigmas_at(self, timesteps: Levels) -> Levels:
        return self._table.at(timesteps)

    def _run(
        self,
        kind: type[RunType],
        timesteps: Levels,
        sigmas: Levels,
        generator: Generators = None,
        levels: Levels | None = None,
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
        return kind(visited, narrow, tuple(called.tolist()), first, self._estimator, generator)

    def _check_trained(self, num_train_timesteps: int | None) -> None:
        if num_train_timesteps not in (None, len(self)):
            raise ValueError(
                f"num_train_timesteps is a setting of the scheduler, {len(self)}, got {num_train_timesteps};"
                " leave it out."
            )

    def _trained(self) -> tuple[Levels, Levels]:
        """All timesteps of the training, and their sigmas."""
        return np.arange(len(self) - 1, -1, -1.0), np.append(self._table.sigmas[::-1], 0.0)

    def _stepped(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        return_dict: bool,
        generator: Generators = None,
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """The held run's next step, and the clean estimate at its beginning."""
        index = self._next_index(timestep)
        denoised = self._held.denoised(model_output, index, sample).to(model_output.dtype)
        latents = self._held.step(model_output, index, sample, generator=generator)
        return DenoisedOutput(latents, denoised) if return_dict else (latents, denoised)
