"""Euler steps along the probability flow, plain or with fresh noise (arXiv:2206.00364)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from filmstrip.nn.noise import Generators, draw_noise
from filmstrip.schedulers.discrete import DenoisedOutput
from filmstrip.schedulers.prediction import Level, combine
from filmstrip.schedulers.schedule import Numbers, check_choice, falling_levels
from filmstrip.schedulers.sigma import SigmaRun, SigmaScheduler


class Churn(NamedTuple):
    """Noise that is added before a step: its amount, between which levels, and its strength (algorithm 2)."""

    amount: float = 0.0
    lowest: float = 0.0
    highest: float = math.inf
    strength: float = 1.0

    def raised(self, sigma: float, num_steps: int) -> float:
        """The level to which noise is added."""
        share = min(self.amount / num_steps, 2**0.5 - 1) if self.lowest <= sigma <= self.highest else 0.0
        return sigma * (1 + share)


@dataclass(frozen=True, eq=False)
class EulerRun(SigmaRun):
    """The steps of one generation."""

    churn: Churn = Churn()

    def step(
        self,
        prediction: Tensor,
        step_index: int,
        latents: Tensor,
        *,
        generator: Generators = None,
        churn: Churn | None = None,
    ) -> Tensor:
        """The latents after one step, computed in float32 or wider.

        Args:
            generator: of the noise that churning adds; the run's own if None.
            churn: instead of the run's own.
        """
        sigma, sigma_next = self.levels[step_index].sigma, self.levels[step_index + 1].sigma
        churn = self.churn if churn is None else churn
        raised = churn.raised(sigma, len(self.sigmas) - 1)
        terms = [(1.0, latents)]
        if raised > sigma:
            generator = self.generator if generator is None else generator
            noise = draw_noise(prediction.shape, generator, prediction.device, prediction.dtype)
            terms.append((churn.strength * math.sqrt(raised**2 - sigma**2), noise))
        current = combine(*terms) if raised > sigma else latents
        derivative = self.estimator.noise_terms(prediction, current, Level(1.0, raised))
        stepped = combine((1.0, current), *((weight * (sigma_next - raised), tensor) for weight, tensor in derivative))
        return stepped.to(torch.promote_types(latents.dtype, prediction.dtype))
