"""Euler steps between sigmas, straight or with fresh noise (arXiv:2206.00364, algorithms 1 and 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.discrete import DenoisedOutput
from filmstrip.schedulers.exploding import (
    AncestralScheduler,
    ExplodingLoop,
    ExplodingRun,
    ExplodingScheduler,
    ExplodingSettings,
    timesteps_of_logarithms,
)
from filmstrip.schedulers.prediction import Level, Terms, combine, scaled
from filmstrip.schedulers.schedule import Levels, Numbers, exponential_levels
from filmstrip.schedulers.settings import Bounded, FinalLevel, Spaced, Trained, WithoutSignal, setting, taking


@dataclass(frozen=True, eq=False)
class EulerRun(ExplodingRun):
    """Straight steps, towards which noise can be added before each (churn)."""

    def step(
        self, prediction: Tensor, step_index: int, latents: Tensor, *, generator: Generators = None, **churn: float
    ) -> Tensor:
        """The latents after one step, computed in float32 or wider and given in the prediction's type.

        Args:
            generator: of the noise of churning; the run's own if None.
            churn: see `churned`.
        """
        latents, sigma, clean = self.churned(prediction, step_index, latents, generator, **churn)
        return euler_step(latents, clean, sigma, self.levels[step_index + 1]).to(prediction.dtype)

    def churned(
        self,
        prediction: Tensor,
        step_index: int,
        latents: Tensor,
        generator: Generators = None,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = math.inf,
        s_noise: float = 1.0,
    ) -> tuple[Tensor, float, Terms]:
        """Latents to step from, their sigma, and the clean ones.

        Args:
            s_churn: how much noise is added over the run, at sigmas from `s_tmin` to `s_tmax`.
            s_noise: standard deviation of that noise.
        """
        sigma = self.levels[step_index]
        churned = churned_sigma(sigma, len(self.sigmas) - 1, s_churn, s_tmin, s_tmax)
        if churned > sigma:
            generator = self.generator if generator is None else generator
            noise = draw_noise(prediction.shape, generator, prediction.device, prediction.dtype)
            latents = combine((1.0, latents), (s_noise * (churned**2 - sigma**2) ** 0.5, noise))
        level = Level(1.0, churned if self._predicts_churned else sigma)
        return latents, churned, self.estimator.clean_terms(prediction, latents, level)

    @property
    def _predicts_churned(self) -> bool:
        """Whether predictions are taken to be for the churned sigma; as in the reference, those of the noise only."""
        return self.estimator.prediction_type == "epsilon"


@dataclass(frozen=True, eq=False)
class EulerAncestralRun(ExplodingRun):
    """Steps below the next sigma, up to which fresh noise fills."""

    def step(self, prediction: Tensor, step_index: int, latents: Tensor, *, generator: Generators = None) -> Tensor:
        """The latents after one step, computed in float32 or wider and given in the prediction's type.

        Args:
            generator: of the fresh noise; the run's own if None.
        """
        sigma, next_sigma = self.levels[step_index], self.levels[step_index + 1]
        down, up = ancestral_split(sigma, next_sigma)
        clean = self.estimator.clean_terms(prediction, latents, Level(1.0, sigma))
        generator = self.generator if generator is None else generator
        noise = draw_noise(prediction.shape, generator, prediction.device, prediction.dtype)
        return euler_step(latents, clean, sigma, down, (up, noise)).to(prediction.dtype)


def churned_sigma(sigma: float, num_calls: int, s_churn: float, s_tmin: float, s_tmax: float) -> float:
    """The sigma up to which noise is added before a step (arXiv:2206.00364, algorithm 2)."""
    return sigma * (1 + min(s_churn / num_calls, 2**0.5 - 1)) if s_churn > 0 and s_tmin <= sigma <= s_tmax else sigma


def ancestral_split(sigma: float, next_sigma: float) -> tuple[float, float]:
    """The sigma to step down to, and the standard deviation of fresh noise that leads up to the next one."""
    down = next_sigma**2 / sigma
    return down, max(next_sigma**2 - down**2, 0) ** 0.5  # not below zero where a schedule rises


def euler_step(latents: Tensor, clean: Terms, sigma: float, next_sigma: float, *more: tuple[float, Tensor]) -> Tensor:
    """`latents + (next_sigma - sigma) * (latents - clean) / sigma`."""
    moved = (next_sigma - sigma) / sigma
    # What cancels of the latents' weights comes before the 1, for which no pass is needed.
    return combine((moved, latents), *scaled(-moved, clean), (1.0, latents), *more)


@dataclass(frozen=True, eq=False, kw_only=True)
class EulerAncestralSettings(WithoutSignal, ExplodingSettings):
    """Settings of Euler's method with fresh noise."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EulerSettings(Bounded, WithoutSignal, Spaced, Trained):
    """Settings of Euler's method."""

    prediction_type: Literal["epsilon", "sample", "original_sample", "v_prediction"] = "epsilon"
    interpolation_type: Literal["linear", "log_linear"] = setting(
        "how sigmas between those of the training are found.", "linear"
    )
    timestep_type: Literal["discrete", "continuous"] = setting(
        '"continuous" feeds a v-predicting network a quarter of the logarithm of sigma.', "discrete"
    )
    final_sigmas_type: FinalLevel = setting(
        "whether the last step ends in clean latents or at the lowest sigma of the training.", "zero"
    )


class EulerLoop(ExplodingLoop[EulerRun]):
    """The calls of Diffusers' loops around runs of Euler's method."""

    takes_whole_numbers = False

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
        return_dict: bool = True,
        pred_original_sample: Tensor | None = None,
    ) -> DenoisedOutput | tuple[Tensor, Tensor]:
        """One step of the held run; see the run's `step`.

        Args:
            timestep: one of `timesteps`; it is looked up at the first step only.
            pred_original_sample: the clean latents, instead of what the model output says of them.
        """
        index = self._next_index(timestep)
        run, churn = self._held, (s_churn, s_tmin, s_tmax, s_noise)
        sample, sigma, clean = run.churned(model_output, index, sample, generator, *churn)
        if pred_original_sample is not None:
            clean = [(1.0, pred_original_sample)]
        latents = euler_step(sample, clean, sigma, run.levels[index + 1]).to(model_output.dtype)
        denoised = combine(*clean)
        return DenoisedOutput(latents, denoised) if return_dict else (latents, denoised)


class EulerDiscreteScheduler(EulerLoop, ExplodingScheduler[EulerRun]):
    """Settings of Euler sampling."""

    _run_type = EulerRun

    @taking(EulerSettings)
    def __init__(self, settings: EulerSettings) -> None:
        self._train()
        self._hold(self._run(*self._trained()))

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        sigmas: Numbers | None = None,
        generator: Generators = None,
    ) -> EulerRun:
        return self._run(*self._schedule(num_inference_steps, timesteps, sigmas), generator)

    def _run(
        self, timesteps: Levels, sigmas: Levels, generator: Generators = None, levels: Levels | None = None
    ) -> EulerRun:
        if self.config.timestep_type == "continuous" and self.config.prediction_type == "v_prediction":
            timesteps = timesteps_of_logarithms(sigmas[: len(timesteps)])
        return super()._run(timesteps, sigmas, generator, levels)

    def _sigmas_at(self, timesteps: Levels) -> Levels:
        if self.config.interpolation_type == "linear":
            return super()._sigmas_at(timesteps)
        highest, lowest = float(self._table.sigmas[-1]), float(self._table.sigmas[0])
        return exponential_levels(highest, lowest, len(timesteps) + 1)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Numbers | None = None,
        sigmas: Numbers | None = None,
    ) -> None:
        self._show(self.start(num_inference_steps, timesteps=timesteps, sigmas=sigmas), device)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What a network with v-prediction is to predict for clean latents and noise at timesteps of the held run."""
        sigma = torch.tensor(self._held.levels, dtype=torch.float64)[self._indices(timesteps)]
        sigma = sigma.to(sample.device, torch.promote_types(sample.dtype, torch.float32))
        sigma = sigma.view(-1, *[1] * (sample.ndim - 1))
        return ((noise - sigma * sample) / (sigma**2 + 1).sqrt()).to(sample.dtype)


class EulerAncestralDiscreteScheduler(AncestralScheduler[EulerAncestralRun]):
    """Settings of Euler sampling with fresh noise at each step."""

    _run_type = EulerAncestralRun
    takes_whole_numbers = False

    @taking(EulerAncestralSettings)
    def __init__(self, settings: EulerAncestralSettings) -> None:
        self._train()
        self._hold(self._run(*self._trained()))
