"""Denoising diffusion probabilistic models: each step draws from the posterior (arXiv:2006.11239)."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.discrete import (
    DenoisedOutput,
    DiscreteRun,
    DiscreteSettings,
    LinkedScheduler,
    Transition,
    told,
)
from filmstrip.schedulers.prediction import Estimator, combine, scaled
from filmstrip.schedulers.schedule import Numbers
from filmstrip.schedulers.settings import Clipped, Thresholded, WithoutSignal, setting, taking

logger = logging.getLogger(__name__)

_LARGE = ("fixed_large", "fixed_large_log")
_VARIANCES = ("fixed_small", "fixed_small_log", *_LARGE, "learned", "learned_range")


@dataclass(frozen=True, eq=False, kw_only=True)
class DDPMRun(DiscreteRun):
    """The steps of one generation."""

    variance_type: str | None = None

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        transition, draws = self.transitions[step_index], int(self.timesteps[step_index]) > 0
        return ddpm_step(self.estimator, prediction, latents, transition, self.variance_type, generator, draws)


def posterior(transition: Transition) -> tuple[float, float, float, float]:
    """Weights of the clean latents and of the latents in the mean, lowest and highest variance (equations 6 and 7)."""
    (alpha, sigma), (next_alpha, next_sigma), _ = transition
    kept = alpha / next_alpha  # of the signal, in this step
    added = 1 - kept**2
    smallest = max((next_sigma / sigma) ** 2 * added, 1e-20)
    return next_alpha * added / sigma**2, kept * (next_sigma / sigma) ** 2, smallest, added


def ddpm_step(
    estimator: Estimator,
    prediction: Tensor,
    latents: Tensor,
    transition: Transition,
    variance_type: str | None = None,
    generator: Generators = None,
    draws: bool = True,
) -> Tensor:
    """Latents drawn from the posterior, or its mean if `draws` is false."""
    prediction, learned = split_variance(prediction, latents, variance_type)
    clean_weight, weight, smallest, largest = posterior(transition)
    clean = estimator.clean_terms(prediction, latents, transition.level)
    terms = [(weight, latents), *scaled(clean_weight, clean)]
    if draws:
        noise = draw_noise(prediction.shape, generator, prediction.device, prediction.dtype)
        if variance_type == "learned":
            noise, spread = noise * learned.sqrt(), 1.0
        elif variance_type == "learned_range":
            low, high = math.log(smallest) / 2, math.log(largest) / 2  # where the network says -1 and 1
            log_spread = learned * ((high - low) / 2) + (high + low) / 2
            noise, spread = noise * log_spread.exp(), 1.0
        else:
            spread = math.sqrt(largest if variance_type in _LARGE else smallest)
        terms.append((spread, noise))
    return combine(*terms)


def split_variance(prediction: Tensor, latents: Tensor, variance_type: str | None) -> tuple[Tensor, Tensor]:
    """The prediction, and the variance that stands behind it if the network has learned one."""
    channels = latents.shape[1]
    if variance_type not in ("learned", "learned_range"):
        return prediction, prediction
    if prediction.shape[1] != 2 * channels:
        raise ValueError(
            f"with variance_type={variance_type!r} the network predicts {2 * channels} channels for latents of"
            f" {channels}, got {prediction.shape[1]}; use variance_type='fixed_small'."
        )
    predicted, learned = prediction.split(channels, dim=1)
    return predicted, learned


@dataclass(frozen=True, eq=False, kw_only=True)
class DDPMSettings(Thresholded, Clipped, WithoutSignal, DiscreteSettings):
    """Settings of DDPM."""

    variance_type: str | None = setting(
        "noise of each step: the lowest or highest variance that is right for some data, or a learned one.",
        "fixed_small",
    )


class DDPMScheduler(LinkedScheduler):
    """Settings of DDPM sampling."""

    @taking(DDPMSettings)
    def __init__(self, settings: DDPMSettings) -> None:
        kind = settings.variance_type
        if kind not in (None, *_VARIANCES):
            logger.warning("there is no variance_type %r; the lowest variance is used, fixed_small.", kind)
        self._train()

    @property
    def variance_type(self) -> str | None:
        """How noisy each step is."""
        kind: str | None = self.config.variance_type
        return kind

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        generator: Generators = None,
    ) -> DDPMRun:
        visited, _ = self._schedule(num_inference_steps, timesteps)
        transitions = self._linked(visited.tolist())
        return DDPMRun(
            visited,
            transitions,
            estimator=self._estimator,
            variance_type=self.variance_type,
            generator=generator,
        )

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Numbers | None = None,
    ) -> None:
        self._hold_new(device, num_inference_steps, timesteps=timesteps)

    def _get_variance(self, t: int) -> Tensor:
        """The lowest or highest variance of the step from a timestep; the reference's tests ask for it."""
        _, _, smallest, largest = posterior(self._transition(t, int(self.previous_timestep(t))))
        return torch.tensor(largest if self.variance_type in _LARGE else smallest)

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """One step from any timestep of the run, or of the training if none was set."""
        first = int(self._value(timestep))
        transition = self._transition(first, int(self.previous_timestep(first)))
        kind, estimator = self.variance_type, self._estimator
        latents = ddpm_step(estimator, model_output, sample, transition, kind, generator, first > 0)
        predicted, _ = split_variance(model_output, sample, kind)
        denoised = estimator.clean(predicted, sample, transition.level)
        return told(latents, denoised, torch.promote_types(sample.dtype, model_output.dtype), return_dict)
