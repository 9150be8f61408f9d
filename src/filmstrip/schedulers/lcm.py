"""Latent consistency models: jump to the clean latents, and back to less noise (arXiv:2310.04378)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from filmstrip.outputs import Output
from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.diffusion import Timesteps, whole_timesteps
from filmstrip.schedulers.discrete import DiscreteRun, Ending, LinkedScheduler
from filmstrip.schedulers.prediction import combine, scaled
from filmstrip.schedulers.schedule import Numbers, number_of_steps
from filmstrip.schedulers.settings import Clipped, Spacing, Thresholded, WithoutSignal, setting, taking

_SIGMA_DATA = 0.5  # standard deviation of clean latents that the boundary condition assumes


@dataclass
class LCMSchedulerOutput(Output):
    """The latents after one step, and the clean ones that it jumped to."""

    prev_sample: Tensor
    denoised: Tensor | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class LCMRun(DiscreteRun):
    """The jumps of one generation; the last one stays at the clean latents."""

    timestep_scaling: float = 10.0

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        denoised = self.denoised(prediction, step_index, latents)
        dtype = torch.promote_types(latents.dtype, prediction.dtype)
        return self.renoised(denoised, step_index, dtype, generator)

    def denoised(self, prediction: Tensor, step_index: int, latents: Tensor) -> Tensor:
        """The clean latents by the consistency function, which changes nothing at timestep 0 (equation 9)."""
        level = self.transitions[step_index].level
        time = int(self.timesteps[step_index]) * self.timestep_scaling
        kept = _SIGMA_DATA**2 / (time**2 + _SIGMA_DATA**2)
        moved = time / (time**2 + _SIGMA_DATA**2) ** 0.5
        return combine((kept, latents), *scaled(moved, self.estimator.clean_terms(prediction, latents, level)))

    def renoised(self, denoised: Tensor, step_index: int, dtype: torch.dtype, generator: Generators) -> Tensor:
        """Clean latents as noisy as the next step wants them."""
        if step_index == len(self.timesteps) - 1:
            return denoised
        alpha, sigma = self.transitions[step_index].next_level
        return combine((alpha, denoised), (sigma, draw_noise(denoised.shape, generator, denoised.device, dtype)))


_UNUSED = "an entry of published configs, without effect: the timesteps are those of the distillation."


@dataclass(frozen=True, eq=False)
class DistilledSettings(Thresholded, Clipped, WithoutSignal, Ending):
    """Settings of solvers for networks that were distilled at the timesteps of a schedule."""

    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    _: KW_ONLY
    clip_sample: bool = False
    set_alpha_to_one: bool = setting(_UNUSED, True)
    steps_offset: int = setting(_UNUSED, 0)
    timestep_spacing: Spacing = setting(_UNUSED, "leading")
    original_inference_steps: int = setting(
        "length of the schedule that the model was distilled with; steps are taken from it.", 50
    )
    timestep_scaling: float = setting("of the boundary condition: the higher, the less the latents count.", 10.0)


class DistilledScheduler(LinkedScheduler):
    """Schedules of networks that were distilled."""

    _held: DiscreteRun

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        original_inference_steps: int | None = None,
        timesteps: Numbers | None = None,
        strength: float = 1.0,
    ) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`."""
        more = {"original_inference_steps": original_inference_steps, "strength": strength}
        self._hold_new(device, num_inference_steps, timesteps=timesteps, **more)

    def _visited(
        self, num_inference_steps: int | None, timesteps: Numbers | None, original: int | None, strength: float
    ) -> Timesteps:
        """The timesteps of a run."""
        given = whole_timesteps(timesteps, len(self))
        num_steps = number_of_steps(num_inference_steps, None, given)
        if given is None:
            visited = self._distilled(num_steps, original, strength)
        else:
            visited = given[num_steps - min(int(num_steps * strength), num_steps) :]
        if not len(visited):
            raise ValueError(f"strength {strength:g} leaves none of {num_steps} timesteps; raise it.")
        return visited

    def _distilled(self, num_steps: int, original: int | None, strength: float) -> Timesteps:
        """Timesteps spread evenly over those of the distillation."""
        origin = self._origin(original, strength)
        highest = len(origin) if original is None else min(len(origin), original)
        if num_steps > highest:
            raise ValueError(
                f"num_inference_steps must be at most {highest}, the steps of the distillation that strength"
                f" {strength:g} leaves, got {num_steps}; raise original_inference_steps or strength."
            )
        chosen: Timesteps = origin[np.linspace(0, len(origin), num_steps, endpoint=False).astype(np.int64)]
        return chosen

    def _origin(self, original: int | None, strength: float) -> Timesteps:
        """The timesteps of the distillation."""
        if original is None:
            original = int(self.config.original_inference_steps)
        if original > len(self):
            raise ValueError(
                f"original_inference_steps must be at most {len(self)}, the number of timesteps that the network was"
                f" trained with, got {original}."
            )
        return np.arange(1, int(original * strength) + 1)[::-1] * (len(self) // original) - 1


class LCMSettings(DistilledSettings):
    """Settings of latent consistency models."""


class LCMScheduler(DistilledScheduler):
    """Settings of sampling with latent consistency models."""

    @taking(LCMSettings)
    def __init__(self, settings: LCMSettings) -> None:
        self._train()

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        original_inference_steps: int | None = None,
        strength: float = 1.0,
        generator: Generators = None,
    ) -> LCMRun:
        """The schedule and solver of one generation; see `Scheduler.start`.

        Args:
            timesteps: instead of those of the distillation.
            original_inference_steps: length of the distillation's schedule; the setting if None.
            strength: share of the schedule, at its clean end, that is used.
        """
        visited = self._visited(num_inference_steps, timesteps, original_inference_steps, strength)
        return LCMRun(
            torch.from_numpy(visited.copy()),
            self._linked(visited.tolist()),
            estimator=self._estimator,
            timestep_scaling=self.config.timestep_scaling,
            generator=generator,
        )

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> LCMSchedulerOutput | tuple[Tensor, Tensor]:
        """One jump of the held run; the first one is found by its timestep."""
        self._num_steps()
        run = cast(LCMRun, self._held)
        index = self._next_index(timestep)
        dtype = torch.promote_types(sample.dtype, model_output.dtype)
        denoised = run.denoised(model_output, index, sample)
        latents = run.renoised(denoised, index, dtype, generator).to(dtype)
        return LCMSchedulerOutput(latents, denoised.to(dtype)) if return_dict else (latents, denoised.to(dtype))
