"""Heun's method of second order between sigmas (arXiv:2206.00364, algorithm 1 without churn)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.discrete import DenoisedOutput
from filmstrip.schedulers.exploding import ExplodingRun, ExplodingScheduler
from filmstrip.schedulers.prediction import Terms, combine, scaled
from filmstrip.schedulers.schedule import Levels, Numbers


@dataclass(frozen=True, eq=False)
class HeunRun(ExplodingRun):
    """An Euler step, then a second one from the same latents along the mean of the slopes at both ends."""

    begun: list[tuple[float, Tensor, Terms]] = field(default_factory=list, init=False, repr=False)

    order: ClassVar[int] = 2

    def step(self, prediction: Tensor, step_index: int, latents: Tensor, *, generator: Generators = None) -> Tensor:
        """The latents after one call of the network, computed in float32 or wider."""
        dtype = torch.promote_types(latents.dtype, prediction.dtype)
        sigma, slope = self.levels[step_index], self.slope(prediction, step_index, latents)
        if not self.begun:
            if step_index + 1 < len(self.timesteps):  # the last step to zero is an Euler step
                self.begun.append((sigma, latents, slope))
            return combine((1.0, latents), *scaled(self.levels[step_index + 1] - sigma, slope)).to(dtype)
        first_sigma, first_latents, first_slope = self.begun.pop()
        return combine((1.0, first_latents), *scaled((sigma - first_sigma) / 2, [*first_slope, *slope])).to(dtype)


class HeunDiscreteScheduler(ExplodingScheduler):
    """Settings of Heun sampling, which calls the network twice for each step but the last.

    Args:
        clip_sample, clip_sample_range: bound the clean estimate of each call.

    The others are those of `EulerDiscreteScheduler`.
    """

    order = 2

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "linear",
        trained_betas: Numbers | None = None,
        prediction_type: str = "epsilon",
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        use_beta_sigmas: bool | None = False,
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
        timestep_spacing: Literal["linspace", "leading", "trailing"] = "linspace",
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
    ) -> HeunRun:
        """The schedule and solver of one generation, `2 * num_steps - 1` calls of the network.

        Args:
            timesteps: from noise to clean, instead of evenly spaced ones.
            generator: without effect: the solver draws no noise.
        """
        visited, sigmas = self._schedule(num_inference_steps, timesteps)
        return self._run(HeunRun, _twice(visited), np.append(_twice(sigmas[:-1]), sigmas[-1]), generator)

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
        self._check_trained(num_train_timesteps)
        self._show(self.start(num_inference_steps, timesteps=timesteps), device)

    def step(
        self, model_output: Tensor, timestep: float | Tensor, sample: Tensor, return_dict: bool = True
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """One call of the held run; the first one is found by its timestep."""
        return self._stepped(model_output, timestep, sample, return_dict)


def _twice(values: Levels) -> Levels:
    """Each value but the first one twice."""
    return np.append(values[:1], np.repeat(values[1:], 2))
