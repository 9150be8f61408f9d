"""What the runs of all solvers have in common whose networks were trained with a table of noise levels."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.prediction import Estimator, Level, combine


@dataclass(frozen=True, eq=False)
class SolverRun:
    """The timesteps of one generation, and how its predictions are read; see `Run`."""

    timesteps: Tensor  # (num_steps,), on the CPU
    _: KW_ONLY
    estimator: Estimator
    generator: Generators = None

    order: ClassVar[int] = 1

    def noise_level(self, step_index: int) -> Level:
        """How noisy latents are before this step."""
        raise NotImplementedError

    def scale_input(self, latents: Tensor, step_index: int) -> Tensor:
        """The latents as they are: the network sees them unscaled."""
        return latents

    def step(self, prediction: Tensor, step_index: int, latents: Tensor, *, generator: Generators = None) -> Tensor:
        """The latents after one call of the network, computed in float32 or wider.

        Args:
            generator: of the noise that some solvers add; the run's own if None.
        """
        stepped = self.solve(prediction, step_index, latents, self.generator if generator is None else generator)
        return stepped.to(torch.promote_types(latents.dtype, prediction.dtype))

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        """The solver's part of `step`, in float32 or wider."""
        raise NotImplementedError

    def add_noise(self, clean: Tensor, noise: Tensor, step_index: int) -> Tensor:
        """Clean latents as noisy as they are before this step."""
        alpha, sigma = self.noise_level(step_index)
        return combine((alpha, clean), (sigma, noise)).to(torch.promote_types(clean.dtype, noise.dtype))
