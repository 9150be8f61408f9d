"""Euler steps along the straight paths of flow matching (arXiv:2209.03003, arXiv:2403.03206)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.base import SchedulerOutput
from filmstrip.schedulers.flow_match import FlowMatchRun, FlowMatchScheduler, FlowMatchSettings
from filmstrip.schedulers.settings import setting, taking


@dataclass(frozen=True, eq=False)
class FlowMatchEulerRun(FlowMatchRun):
    """Euler steps between the noise levels of one generation."""

    stochastic: bool = False

    def step(
        self,
        prediction: Tensor,
        step_index: int,
        latents: Tensor,
        *,
        generator: Generators = None,
        per_token_timesteps: Tensor | None = None,  # (batch, tokens)
    ) -> Tensor:
        """The latents after one step, computed in float32 (or wider) and given in the prediction's dtype.

        Args:
            generator: for the noise of stochastic sampling; the run's own if None.
            per_token_timesteps: latents are (batch, tokens, dim), and each token steps from its own timestep to
                the schedule's next lower level. The result is in float32.
        """
        if per_token_timesteps is not None:
            sigma = per_token_timesteps.float() / self.num_train_timesteps
            sigma_next = self._next_lower(sigma)
            return self._euler(prediction, latents.float(), sigma[..., None], sigma_next[..., None], generator)
        levels = self.levels[step_index], self.levels[step_index + 1]
        return self._euler(prediction, latents, *levels, generator).to(prediction.dtype)

    def _euler(
        self,
        velocity: Tensor,
        latents: Tensor,
        sigma: float | Tensor,
        sigma_next: float | Tensor,
        generator: Generators,
    ) -> Tensor:
        if self.stochastic:
            denoised = _add_scaled(latents.float(), velocity, -sigma)
            generator = self.generator if generator is None else generator
            noise = draw_noise(latents.shape, generator, latents.device, denoised.dtype)
            return torch.lerp(denoised, noise, sigma_next)
        return _add_scaled(latents, velocity, sigma_next - sigma)

    def _next_lower(self, sigma: Tensor) -> Tensor:
        """The schedule's highest level below each of `sigma`, or 0."""
        ascending = torch.cat([torch.zeros(1), self.sigmas.sort().values]).to(sigma.device, non_blocking=True)
        below = torch.bucketize(sigma - 1e-6, ascending) - 1  # the margin is float32 rounding
        return ascending[below.clamp_min(0)]


def _add_scaled(latents: Tensor, velocity: Tensor, scale: float | Tensor) -> Tensor:
    """`latents + scale * velocity` in one pass; half precision is widened inside and rounded once."""
    if isinstance(scale, Tensor):
        return torch.addcmul(latents, velocity.to(latents.dtype), scale)
    return torch.add(latents, velocity, alpha=scale)


@dataclass(frozen=True, eq=False, kw_only=True)
class FlowMatchEulerSettings(FlowMatchSettings):
    """Settings of Euler's method for flow matching."""

    stochastic_sampling: bool = setting("each step estimates the clean video and adds fresh noise.", False)


class FlowMatchEulerDiscreteScheduler(FlowMatchScheduler[FlowMatchEulerRun]):
    """Settings of Euler sampling for flow matching."""

    @taking(FlowMatchEulerSettings)
    def __init__(self, settings: FlowMatchEulerSettings) -> None:
        self._train(settings)

    def _over(self, sigmas: Tensor, timesteps: Tensor, generator: Generators = None) -> FlowMatchEulerRun:
        stochastic = self.config.stochastic_sampling
        return FlowMatchEulerRun(sigmas, timesteps, len(self), stochastic=stochastic, generator=generator)

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = math.inf,
        s_noise: float = 1.0,
        generator: Generators = None,
        per_token_timesteps: Tensor | None = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """One step of the held run.

        Args:
            timestep: one of `timesteps`; it is looked up at the first step only.
            s_churn, s_tmin, s_tmax, s_noise: settings of other Euler solvers, which this one does not have.
            per_token_timesteps: (batch, tokens), see the run's `step`. As in Diffusers, the model output is then
                clean - noise, unless the sampling is stochastic.
        """
        if (s_churn, s_tmin, s_tmax, s_noise) != (0.0, 0.0, math.inf, 1.0):
            raise ValueError(
                "flow matching has no s_churn, s_tmin, s_tmax and s_noise; leave them out"
                " (stochastic_sampling=True adds noise at each step)."
            )
        index = self._next_index(timestep)
        if per_token_timesteps is not None and not self.config.stochastic_sampling:
            model_output = -model_output
        latents = self._held.step(
            model_output, index, sample, generator=generator, per_token_timesteps=per_token_timesteps
        )
        return SchedulerOutput(latents) if return_dict else (latents,)
