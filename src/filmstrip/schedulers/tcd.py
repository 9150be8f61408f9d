"""Trajectory consistency: jump along the trajectory, and part of the way back by fresh noise (arXiv:2402.19159)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from filmstrip.outputs import Output
from filmstrip.randomness import Generators, draw_noise
from filmstrip.schedulers.ddim import check_eta
from filmstrip.schedulers.diffusion import Timesteps
from filmstrip.schedulers.discrete import DiscreteRun, Transition
from filmstrip.schedulers.lcm import DistilledScheduler, DistilledSettings
from filmstrip.schedulers.prediction import Estimator, Level, combine, scaled
from filmstrip.schedulers.schedule import Numbers
from filmstrip.schedulers.settings import setting, taking


@dataclass
class TCDSchedulerOutput(Output):
    """The latents after one step, and those that it jumped to before noise was added."""

    prev_sample: Tensor
    pred_noised_sample: Tensor | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class TCDRun(DiscreteRun):
    """The jumps of one generation; the last one ends at timestep 0, which is above no noise."""

    table: Tensor  # `alphas_cumprod` of the training
    eta: float = 0.3

    def __post_init__(self) -> None:
        check_eta(self.eta)

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        jumped, level = self.jumped(prediction, step_index, latents, self.eta)
        dtype = torch.promote_types(latents.dtype, prediction.dtype)
        return self.renoised(jumped, level, step_index, dtype, generator, self.eta)

    def jumped(self, prediction: Tensor, step_index: int, latents: Tensor, eta: float) -> tuple[Tensor, Level]:
        """Latents further along the trajectory than the next timestep, and their level (algorithm 4)."""
        is_last = step_index == len(self.timesteps) - 1
        next_timestep = torch.tensor(0) if is_last else self.timesteps[step_index + 1]
        place = int(((1 - eta) * next_timestep).floor())  # in float32, as the reference has it
        signal = float(self.table[place])
        level, begun = Level(signal**0.5, (1 - signal) ** 0.5), self.transitions[step_index].level
        clean = self.estimator.clean_terms(prediction, latents, begun)
        noise = self.estimator.noise_terms(prediction, latents, begun)
        return combine(*scaled(level.alpha, clean), *scaled(level.sigma, noise)), level

    def renoised(
        self, jumped: Tensor, level: Level, step_index: int, dtype: torch.dtype, generator: Generators, eta: float
    ) -> Tensor:
        """These latents as noisy as the next step wants them."""
        if eta == 0 or step_index == len(self.timesteps) - 1:
            return jumped
        kept = self.transitions[step_index].next_level.alpha / level.alpha
        noise = draw_noise(jumped.shape, generator, jumped.device, dtype)
        return combine((kept, jumped), (max(1 - kept**2, 0) ** 0.5, noise))


_UNUSED = "an entry of published configs, without effect: estimates are not bounded."


@dataclass(frozen=True, eq=False, kw_only=True)
class TCDSettings(DistilledSettings):
    """Settings of trajectory consistency."""

    clip_sample: bool = setting(_UNUSED, False)
    clip_sample_range: float = setting(_UNUSED, 1.0)
    thresholding: bool = setting(_UNUSED, False)
    dynamic_thresholding_ratio: float = setting(_UNUSED, 0.995)
    sample_max_value: float = setting(_UNUSED, 1.0)
    timestep_scaling: float = setting("an entry of published configs, without effect.", 10.0)
    original_inference_steps: int = setting(
        "length of the schedule that the model was distilled with; steps are taken from it.", 50
    )


class TCDScheduler(DistilledScheduler):
    """Settings of sampling with trajectory consistency distillation."""

    @taking(TCDSettings)
    def __init__(self, settings: TCDSettings) -> None:
        self._train()
        self._estimator = Estimator(settings.prediction_type)

    def start(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Numbers | None = None,
        original_inference_steps: int | None = None,
        strength: float = 1.0,
        eta: float = 0.3,
        generator: Generators = None,
    ) -> TCDRun:
        """The schedule and solver of one generation; see `Scheduler.start`.

        Args:
            timesteps: instead of those of the distillation.
            original_inference_steps: steps are then taken from the whole training, and are at most so many.
            strength: share of the schedule, at its clean end, that is used.
            eta: how far jumps go beyond the next timestep, from where fresh noise leads back; gamma in the paper.
        """
        visited = self._visited(num_inference_steps, timesteps, original_inference_steps, strength)
        levels = [*map(self._level, visited.tolist()), self._level(0)]
        return TCDRun(
            torch.from_numpy(visited.copy()),
            tuple(Transition(level, next_level, False) for level, next_level in itertools.pairwise(levels)),
            estimator=self._estimator,
            table=self.alphas_cumprod,
            eta=eta,
            generator=generator,
        )

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        eta: float = 0.3,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> TCDSchedulerOutput | tuple[Tensor, Tensor]:
        """One jump of the held run; the first one is found by its timestep.

        Args:
            eta: see `start`.
        """
        check_eta(eta)
        self._num_steps()
        run, index = cast(TCDRun, self._held), self._next_index(timestep)
        dtype = torch.promote_types(sample.dtype, model_output.dtype)
        jumped, level = run.jumped(model_output, index, sample, eta)
        latents = run.renoised(jumped, level, index, dtype, generator, eta).to(dtype)
        return TCDSchedulerOutput(latents, jumped.to(dtype)) if return_dict else (latents, jumped.to(dtype))

    def _origin(self, original: int | None, strength: float) -> Timesteps:
        if original is None:
            return super()._origin(original, strength)
        return np.arange(int(len(self) * strength))[::-1]
