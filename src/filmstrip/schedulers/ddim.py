"""Denoising diffusion implicit models (arXiv:2010.02502)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from filmstrip.nn.noise import Generators, draw_noise
from filmstrip.schedulers.discrete import DiscreteRun, Transition
from filmstrip.schedulers.prediction import clean_weights, combine


@dataclass(frozen=True, eq=False)
class DDIMRun(DiscreteRun):
    """The steps of one generation."""

    prediction_type: str
    eta: float = 0.0
    generator: Generators = None

    def step(self, prediction: Tensor, step_index: int, latents: Tensor, *, generator: Generators = None) -> Tensor:
        """The latents after one step, computed in float32 or wider.

        Args:
            generator: of the noise that a run with `eta` adds; the run's own if None.
        """
        generator = self.generator if generator is None else generator
        transition = self.transitions[step_index]
        return ddim_step(prediction, latents, transition, self.prediction_type, self.eta, generator)


def ddim_step(
    prediction: Tensor,
    latents: Tensor,
    transition: Transition,
    prediction_type: str,
    eta: float = 0.0,
    generator: Generators = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Latents at the next level, `alpha' * clean + direction * noise' + spread * fresh noise` (equation 12)."""
    (alpha, sigma), (next_alpha, next_sigma), _ = transition
    spread = eta * next_sigma / sigma * max(1 - (alpha / next_alpha) ** 2, 0) ** 0.5
    direction = (next_sigma**2 - spread**2) ** 0.5
    clean = clean_weights(prediction_type, transition.level)
    kept = direction / sigma  # the predicted noise is (latents - alpha * clean) / sigma
    moved = next_alpha - kept * alpha
    terms = [(kept + moved * clean.latents, latents), (moved * clean.prediction, prediction)]
    if spread > 0:
        if noise is None:
            noise = draw_noise(latents.shape, generator, latents.device, latents.dtype)
        terms.append((spread, noise))
    return combine(*terms).to(torch.promote_types(latents.dtype, prediction.dtype))
