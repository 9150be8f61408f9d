"""Euler steps along the straight paths of flow matching (arXiv:2209.03003, arXiv:2403.03206)."""

from __future__ import annotations

import logging
import math
from dataclasses import KW_ONLY, dataclass, field

import numpy as np
import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.base import Scheduler, SchedulerOutput
from filmstrip.schedulers.runs import Run
from filmstrip.schedulers.schedule import (
    Levels,
    Numbers,
    dynamic_shift,
    falling_levels,
    number_of_steps,
    respaced_levels,
    respacing_of,
    shift_levels,
    stretch_to_terminal,
)
from filmstrip.schedulers.settings import Exact, Respaced, Shifted, setting, taking

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FlowMatchEulerRun(Run):
    """The noise levels of one generation and the Euler steps between them.

    The prediction is the velocity d(latents) / d(sigma) = noise - clean.
    """

    sigmas: Tensor  # (num_steps + 1,), float32, on the CPU
    timesteps: Tensor  # (num_steps,), float32, on the CPU
    num_train_timesteps: int
    stochastic: bool = False
    generator: Generators = None
    levels: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.sigmas.tolist()))

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

    def add_noise(self, clean: Tensor, noise: Tensor, step_index: int) -> Tensor:
        return _mixed(clean, noise, self.levels[step_index])

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


def _mixed(clean: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
    """`(1 - sigma) * clean + sigma * noise` in one pass."""
    dtype = torch.promote_types(clean.dtype, noise.dtype)
    if isinstance(sigma, Tensor):
        return torch.lerp(clean.to(dtype), noise.to(dtype), sigma.to(dtype))
    return torch.lerp(clean.to(dtype), noise.to(dtype), sigma)


@dataclass(frozen=True, eq=False)
class FlowMatchEulerSettings(Respaced, Shifted, Exact):
    """Settings of Euler's method for flow matching."""

    num_train_timesteps: int = setting("the timestep that stands for pure noise.", 1000)
    shift: float = setting("above 1, more steps are spent near pure noise.", 1.0)
    _: KW_ONLY
    base_shift: float | None = setting("`mu` of `base_image_seq_len` tokens; pipelines take it from that line.", 0.5)
    max_shift: float | None = setting("`mu` of `max_image_seq_len` tokens.", 1.15)
    base_image_seq_len: int = setting("one number of tokens.", 256)
    max_image_seq_len: int = setting("another one.", 4096)
    invert_sigmas: bool = setting("levels are shares of the clean video, rising to 1.", False)
    shift_terminal: float | None = setting("the last noise level before 0.", None)
    stochastic_sampling: bool = setting("each step estimates the clean video and adds fresh noise.", False)


class FlowMatchEulerDiscreteScheduler(Scheduler):
    """Settings of Euler sampling for flow matching."""

    takes_whole_numbers = False
    knows_flows = True
    is_flow = True
    predicts = "flow_prediction"
    _held: FlowMatchEulerRun

    @taking(FlowMatchEulerSettings)
    def __init__(self, settings: FlowMatchEulerSettings) -> None:
        respacing_of(self.config)
        num_train_timesteps, shift = settings.num_train_timesteps, settings.shift
        self.set_shift(shift)
        trained = np.linspace(1, 0, num_train_timesteps, endpoint=False)
        if not settings.use_dynamic_shifting:
            trained = shift_levels(trained, shift)
        sigmas = torch.from_numpy(trained).float()
        self.sigma_max, self.sigma_min = sigmas[0].item(), sigmas[-1].item()
        # Until set_timesteps is called, the layer holds the schedule of the training.
        self._hold(
            FlowMatchEulerRun(torch.cat([sigmas, torch.zeros(1)]), sigmas * num_train_timesteps, num_train_timesteps)
        )
        self._sigmas = sigmas

    @property
    def shift(self) -> float:
        """The shift of runs without dynamic shifting."""
        return self._shift

    def set_shift(self, shift: float) -> None:
        """Change the shift for the runs to come."""
        if shift <= 0:
            raise ValueError(f"shift must be above 0, got {shift}; 1 leaves the schedule as it is.")
        self._shift = shift

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        sigmas: Numbers | None = None,
        timesteps: Numbers | None = None,
        mu: float | None = None,
        generator: Generators = None,
    ) -> FlowMatchEulerRun:
        """The schedule and solver of one generation.

        Args:
            sigmas: noise levels from 1 down, still to be shifted and respaced as the settings say.
            timesteps: what the network is fed, used as given. Without `sigmas`, the levels are
                `timesteps / num_train_timesteps`, shifted and respaced too, except that with dynamic shifting and
                no `mu` they are used as they are.
            mu: the dynamic shift, where the settings ask for one.
            generator: of the noise that stochastic sampling adds.
        """
        if mu is not None and not self.config.use_dynamic_shifting:
            raise ValueError("mu is the shift of schedulers with use_dynamic_shifting=True; leave it out.")
        given_sigmas = falling_levels("sigmas", sigmas, 1.0)
        given_timesteps = falling_levels("timesteps", timesteps, float(self.config.num_train_timesteps))
        num_steps = number_of_steps(num_inference_steps, given_sigmas, given_timesteps)
        if given_sigmas is None and given_timesteps is not None:
            levels = given_timesteps / self.config.num_train_timesteps
            if self.config.use_dynamic_shifting and mu is None:
                return self._run(levels, given_timesteps, generator)
            moved = self._respaced(self._shifted(levels, mu))
            if not np.allclose(moved, levels):
                logger.warning(
                    "the scheduler's settings move the sigmas away from the given timesteps, which the network is fed"
                    " as they are; give sigmas instead to have both moved."
                )
            return self._run(moved, given_timesteps, generator)
        levels = given_sigmas
        if levels is None:
            # As in the reference, the lowest level of the training, which is shifted, is shifted once more.
            lowest = 1 / self.config.num_train_timesteps if self.config.get("exact_schedule") else self.sigma_min
            levels = np.linspace(self.sigma_max, lowest, num_steps)
        return self._run(self._respaced(self._shifted(levels, mu)), given_timesteps, generator)

    def _shifted(self, levels: Levels, mu: float | None) -> Levels:
        if not self.config.use_dynamic_shifting:
            return shift_levels(levels, self._shift)
        if mu is None:
            raise ValueError(
                "a scheduler with use_dynamic_shifting needs mu; compute it with calculate_shift(tokens, ...)."
            )
        return shift_levels(levels, dynamic_shift(mu, self.config.time_shift_type))

    def _respaced(self, levels: Levels) -> Levels:
        if self.config.shift_terminal:
            levels = stretch_to_terminal(levels, self.config.shift_terminal)
        return respaced_levels(respacing_of(self.config), float(levels[0]), float(levels[-1]), levels)

    def _run(
        self, levels: Levels, given_timesteps: Levels | None = None, generator: Generators = None
    ) -> FlowMatchEulerRun:
        """The run over these levels and the final one, with the given timesteps or those that follow from them."""
        sigmas = torch.from_numpy(levels).float()
        inverted = self.config.invert_sigmas
        if inverted:
            sigmas = 1 - sigmas
        if inverted or given_timesteps is None:
            timesteps = sigmas * self.config.num_train_timesteps
        else:
            timesteps = torch.from_numpy(given_timesteps).float()
        end = torch.ones(1) if inverted else torch.zeros(1)
        return FlowMatchEulerRun(
            torch.cat([sigmas, end]),
            timesteps,
            self.config.num_train_timesteps,
            self.config.stochastic_sampling,
            generator,
        )

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: Numbers | None = None,
        mu: float | None = None,
        timesteps: Numbers | None = None,
    ) -> None:
        """Hold a new run (see `start`), with `timesteps` and `sigmas` on `device`.

        As Diffusers' pipelines give `mu` always, it has no effect here if the settings ask for no dynamic shift.
        """
        mu = mu if self.config.use_dynamic_shifting else None
        self._hold(self.start(num_inference_steps, sigmas=sigmas, timesteps=timesteps, mu=mu), device)
        self.num_inference_steps = len(self._timesteps)

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

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """Clean latents as noisy as the held run is at each of the timesteps, (batch,).

        Once a first step was set or made, that step's level is used instead of the timesteps'.
        """
        sigma = self._held.sigmas[self._indices(timestep)].to(sample.device, sample.dtype)
        sigma = sigma.view(-1, *[1] * (sample.ndim - 1))
        return _mixed(sample, noise, sigma)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """`scale_noise` under the name and argument order of the other schedulers."""
        return self.scale_noise(original_samples, timesteps, noise)
