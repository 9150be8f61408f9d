"""DPM-Solver-2 in sigmas: half a step, then a whole one along the slope found there (arXiv:2206.00927, algorithm 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.discrete import DenoisedOutput
from filmstrip.schedulers.euler import ancestral_split
from filmstrip.schedulers.exploding import ExplodingRun, ExplodingScheduler
from filmstrip.schedulers.prediction import combine, scaled
from filmstrip.schedulers.schedule import Levels, Numbers


@dataclass(frozen=True, eq=False)
class KDPM2Run(ExplodingRun):
    """Two calls of the network for each step but the last; `levels` alternates between steps and their middles."""

    begun: list[tuple[float, Tensor]] = field(default_factory=list, init=False, repr=False)

    order: ClassVar[int] = 2
    is_ancestral: ClassVar[bool] = False

    def step(self, prediction: Tensor, step_index: int, latents: Tensor, *, generator: Generators = None) -> Tensor:
        """The latents after one call of the network, computed in float32 or wider.

        Args:
            generator: of the fresh noise of an ancestral run; the run's own if None.
        """
        dtype = torch.promote_types(latents.dtype, prediction.dtype)
        slope = self.slope(prediction, step_index, latents)
        level, next_level = self.levels[step_index], self.levels[step_index + 1]
        if not self.begun:
            if next_level > 0:  # the last step to zero is an Euler step
                self.begun.append((level, latents))
            return combine((1.0, latents), *scaled(next_level - level, slope)).to(dtype)
        sigma, first_latents = self.begun.pop()
        terms = []
        if self.is_ancestral:
            next_level, up = ancestral_split(sigma, next_level)
            generator = self.generator if generator is None else generator
            noise = draw_noise(prediction.shape, generator, prediction.device, prediction.dtype)
            terms.append((up, noise))
        return combine((1.0, first_latents), *scaled(next_level - sigma, slope), *terms).to(dtype)


class KDPM2AncestralRun(KDPM2Run):
    """The same with a shorter step, up from which fresh noise fills."""

    is_ancestral = True


class KDPM2DiscreteScheduler(ExplodingScheduler):
    """Settings of DPM-Solver-2, which calls the network twice for each step; see `EulerDiscreteScheduler`."""

    order = 2
    run_class: ClassVar[type[KDPM2Run]] = KDPM2Run

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "linear",
        trained_betas: Numbers | None = None,
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        use_beta_sigmas: bool | None = False,
        prediction_type: str = "epsilon",
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
    ) -> None:
        self._train()
        self._hold(self.start(num_train_timesteps))

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        generator: Generators = None,
    ) -> KDPM2Run:
        """The schedule and solver of one generation, `2 * num_steps - 1` calls of the network.

        Args:
            timesteps: from noise to clean, instead of evenly spaced ones.
            generator: of the fresh noise of an ancestral solver.
        """
        visited, sigmas = self._schedule(num_inference_steps, timesteps)
        if self._respacing == "karras":
            visited = visited.round()
        steps, following = sigmas[:-2], sigmas[1:-1]
        if self.run_class.is_ancestral:
            following = np.array([ancestral_split(*pair)[0] for pair in zip(steps, following, strict=True)])
        middles = np.sqrt(steps * following)
        calls = np.append(_alternating(sigmas[:-1], middles), 0.0)
        timesteps_fed = _alternating(visited, self._table.timesteps_of(middles))
        shown = np.concatenate([sigmas[:1], np.repeat(sigmas[1:], 2), sigmas[-1:]])
        return self._run(self.run_class, timesteps_fed, shown, generator, calls)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        num_train_timesteps: int | None = None,
    ) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`.

        Args:
            num_train_timesteps: of the settings; another number is refused.
        """
        self._check_trained(num_train_timesteps)
        super().set_timesteps(num_inference_steps, device)

    def step(
        self, model_output: Tensor, timestep: float | Tensor, sample: Tensor, return_dict: bool = True
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """One call of the held run; the first one is found by its timestep."""
        return self._stepped(model_output, timestep, sample, return_dict)


class KDPM2AncestralDiscreteScheduler(KDPM2DiscreteScheduler):
    """Settings of DPM-Solver-2 with fresh noise at each step; see `EulerDiscreteScheduler`."""

    run_class = KDPM2AncestralRun

    def step(  # type: ignore[override]  # the reference takes the generator before return_dict
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """One call of the held run; the first one is found by its timestep."""
        return self._stepped(model_output, timestep, sample, return_dict, generator)


def _alternating(steps: Levels, middles: Levels) -> Levels:
    """The first step, the middle after it, the second step, and so on."""
    both = np.empty(len(steps) + len(middles))
    both[0::2], both[1::2] = steps, middles
    return both
