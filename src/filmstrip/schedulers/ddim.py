"""Denoising diffusion implicit models, from noise to clean and back (arXiv:2010.02502)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.discrete import DenoisedOutput, DiscreteRun, DiscreteScheduler, Ending, Transition, told
from filmstrip.schedulers.prediction import Estimator, combine, scaled
from filmstrip.schedulers.schedule import Numbers
from filmstrip.schedulers.settings import Clipped, Exact, Thresholded, WithoutSignal, setting, taking


@dataclass(frozen=True, eq=False, kw_only=True)
class DDIMRun(DiscreteRun):
    """The steps of one generation."""

    eta: float = 0.0

    def __post_init__(self) -> None:
        check_eta(self.eta)

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        return ddim_step(self.estimator, prediction, latents, self.transitions[step_index], self.eta, generator)


def ddim_step(
    estimator: Estimator,
    prediction: Tensor,
    latents: Tensor,
    transition: Transition,
    eta: float = 0.0,
    generator: Generators = None,
    noise: Tensor | None = None,
    use_clipped: bool = False,
) -> Tensor:
    """Latents at the next level, `alpha' * clean + direction * noise + spread * fresh noise` (equation 12).

    Args:
        noise: the fresh noise, instead of noise from the generator.
        use_clipped: derive the noise from the clipped clean latents instead of the prediction.
    """
    check_eta(eta)
    (alpha, sigma), (next_alpha, next_sigma), _ = transition
    spread = eta and eta * next_sigma / sigma * max(1 - (alpha / next_alpha) ** 2, 0) ** 0.5
    direction = max(next_sigma**2 - spread**2, 0) ** 0.5
    clean = estimator.clean_terms(prediction, latents, transition.level)
    if use_clipped and not estimator.is_linear:
        noise_terms = [(1 / sigma, latents), *scaled(-alpha / sigma, clean)]
    else:
        noise_terms = Estimator(estimator.prediction_type).noise_terms(prediction, latents, transition.level)
    terms = [*scaled(next_alpha, clean), *scaled(direction, noise_terms)]
    if eta > 0:
        if noise is None:
            noise = draw_noise(prediction.shape, generator, prediction.device, prediction.dtype)
        elif generator is not None:
            raise ValueError("the fresh noise comes from generator or is variance_noise; give one of them.")
        terms.append((spread, noise))
    return combine(*terms)


def check_eta(eta: float) -> None:
    """See that a share of fresh noise is one."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie between 0 (no fresh noise) and 1 (all noise is fresh), got {eta:g}.")


@dataclass(frozen=True, eq=False, kw_only=True)
class DDIMInverseSettings(Clipped, WithoutSignal, Exact, Ending):
    """Settings of DDIM run backwards."""

    set_alpha_to_one: bool = setting(
        "the first step starts from clean latents, instead of at the level of timestep 0.", True
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class DDIMSettings(Thresholded, Clipped, WithoutSignal, Exact, Ending):
    """Settings of DDIM."""


class DDIMScheduler(DiscreteScheduler):
    """Settings of DDIM sampling."""

    @taking(DDIMSettings)
    def __init__(self, settings: DDIMSettings) -> None:
        self._train()

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        eta: float = 0.0,
        generator: Generators = None,
    ) -> DDIMRun:
        """The schedule and solver of one generation; see `Scheduler.start`.

        Args:
            eta: share of the noise that is drawn afresh at each step.
        """
        schedule = self._schedule(num_inference_steps, timesteps)
        return DDIMRun(*schedule, estimator=self._estimator, eta=eta, generator=generator)

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: Generators = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """One step from any timestep, whatever was stepped before.

        Args:
            use_clipped_model_output: derive the noise from the clipped clean latents instead of the prediction.
            variance_noise: used instead of noise from `generator`.
        """
        transition, estimator = self._transition_from(timestep), self._estimator
        latents = ddim_step(
            estimator, model_output, sample, transition, eta, generator, variance_noise, use_clipped_model_output
        )
        denoised = estimator.clean(model_output, sample, transition.level)
        return told(latents, denoised, torch.promote_types(sample.dtype, model_output.dtype), return_dict)

    def _get_variance(self, timestep: int, prev_timestep: int) -> Tensor:
        """Variance of the fresh noise with `eta` of 1, between two timesteps; the reference's tests ask for it."""
        (alpha, sigma), (next_alpha, next_sigma), _ = self._transition(timestep, prev_timestep)
        return torch.tensor((next_sigma / sigma) ** 2 * (1 - (alpha / next_alpha) ** 2))


class DDIMInverseScheduler(DiscreteScheduler):
    """Settings of DDIM run backwards, from clean latents to the noise that DDIM would make them of."""

    makes_noise = True

    @taking(DDIMInverseSettings)
    def __init__(self, settings: DDIMInverseSettings) -> None:
        self._train()
        self._timesteps = self._timesteps.flip(0)

    @property
    def initial_alpha_cumprod(self) -> Tensor:
        """Share of signal, squared, that runs start from."""
        return self.final_alpha_cumprod

    def start(self, num_inference_steps: int | None = None) -> DDIMRun:
        """The schedule and solver of one inversion."""
        timesteps, transitions = self._schedule(num_inference_steps, None)
        turned = tuple(self._turned(transition) for transition in reversed(transitions))
        return DDIMRun(timesteps.flip(0), turned, estimator=self._estimator)

    def step(
        self, model_output: Tensor, timestep: int | Tensor, sample: Tensor, return_dict: bool = True
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """One step up to any timestep, whatever was stepped before."""
        transition = self._turned(self._transition_from(timestep))
        latents = ddim_step(self._estimator, model_output, sample, transition)
        denoised = self._estimator.clean(model_output, sample, transition.level)
        return told(latents, denoised, torch.promote_types(sample.dtype, model_output.dtype), return_dict)

    @staticmethod
    def _turned(transition: Transition) -> Transition:
        return Transition(transition.next_level, transition.level, False)
