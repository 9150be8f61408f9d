"""What schedulers share whose networks were trained at whole-number timesteps and see latents of unit variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from filmstrip.outputs import Output
from filmstrip.schedulers.base import TrainedScheduler
from filmstrip.schedulers.diffusion import Timesteps, spaced_timesteps, whole_timesteps
from filmstrip.schedulers.prediction import Level
from filmstrip.schedulers.runs import TrainedRun
from filmstrip.schedulers.schedule import Numbers, number_of_steps
from filmstrip.schedulers.settings import OfNetwork, Spaced, Spacing, Trained, setting


@dataclass(frozen=True, eq=False, kw_only=True)
class DiscreteSettings(Spaced, Trained):
    """Settings of solvers between whole-number timesteps."""

    prediction_type: OfNetwork = "epsilon"
    timestep_spacing: Spacing = "leading"


@dataclass(frozen=True, eq=False, kw_only=True)
class Ending(DiscreteSettings):
    """The level at which runs end."""

    set_alpha_to_one: bool = setting(
        "the last step ends in clean latents, instead of at the level of timestep 0.", True
    )


@dataclass
class DenoisedOutput(Output):
    """The latents after one step, and the estimate of the clean ones that it was made with."""

    prev_sample: Tensor
    pred_original_sample: Tensor | None = None


def told(
    latents: Tensor, denoised: Tensor, dtype: torch.dtype, return_dict: bool
) -> DenoisedOutput | tuple[Tensor, Tensor]:
    """What a scheduler's `step` returns: both in a type, by name or as a tuple."""
    latents, denoised = latents.to(dtype), denoised.to(dtype)
    return DenoisedOutput(latents, denoised) if return_dict else (latents, denoised)


class Transition(NamedTuple):
    """One step between two noise levels."""

    level: Level
    next_level: Level
    is_final: bool  # past the last timestep of the training


@dataclass(frozen=True, eq=False)
class DiscreteRun(TrainedRun):
    """The timesteps of one generation, whole numbers, and the noise levels between which it steps.

    Latents keep unit variance on the way: `alpha ** 2 + sigma ** 2 == 1`.
    """

    transitions: tuple[Transition, ...]

    @property
    def sigmas(self) -> Tensor:  # type: ignore[override]  # they follow from the transitions
        """Share of noise before each step and after the last one: (num_steps + 1,), float32, on the CPU."""
        levels = [*(step.level for step in self.transitions), self.transitions[-1].next_level]
        return torch.tensor([level.sigma for level in levels])

    def noise_level(self, step_index: int) -> Level:
        return self.transitions[step_index].level


class DiscreteScheduler(TrainedScheduler):
    """Tables of a schedule in whole-number timesteps, and what is read off them."""

    final_alpha_cumprod: Tensor

    def _train(self) -> None:
        super()._train()
        self.final_alpha_cumprod = self.alphas_cumprod[0]
        if self.config.get("set_alpha_to_one", True):
            self.final_alpha_cumprod = torch.tensor(1.0)
        self._hold_training()

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Hold a new run (see `start`), with `timesteps` on `device`."""
        self._hold_new(device, num_inference_steps)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Clean latents as noisy as they are at each of the timesteps, (batch,)."""
        return self._noised(original_samples, noise, timesteps)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What a network with v-prediction is to predict for clean latents and noise."""
        alpha, sigma = self._weights_at(timesteps, sample)
        return (alpha * noise - sigma * sample).to(torch.promote_types(sample.dtype, noise.dtype))

    def _hold_new(self, device: str | torch.device | None, num_inference_steps: int | None, **given: Any) -> None:
        """Hold the run that `start` makes of a number of steps or of timesteps."""
        if num_inference_steps is not None and given.get("timesteps") is not None:
            raise ValueError("set_timesteps takes num_inference_steps or timesteps, got both; leave one out.")
        self._hold(self.start(num_inference_steps, **given), device)
        self.num_inference_steps = len(self._timesteps) if num_inference_steps is None else num_inference_steps

    def _hold_training(self) -> None:
        """Show the timesteps of the training until `set_timesteps` is called."""
        visited = torch.arange(len(self) - 1, -1, -1)
        self._held, self._timesteps = DiscreteRun(visited, (), estimator=self._estimator), visited

    def _schedule(
        self, num_inference_steps: int | None, timesteps: Numbers | None
    ) -> tuple[Tensor, tuple[Transition, ...]]:
        """Timesteps and transitions of a run.

        As in the reference, spaced timesteps step by `num_train_timesteps // num_steps`, which need not lead to the
        next one exactly, unless the settings say so. Given timesteps step to the next one, and the last one to the
        final level.
        """
        given = whole_timesteps(timesteps, len(self))
        num_steps = number_of_steps(num_inference_steps, None, given)
        visited = self._spaced(num_steps) if given is None else given
        if given is None and not self._is_exact:
            ratio = len(self) // num_steps
            transitions = tuple(self._transition(int(t), int(t) - ratio) for t in visited)
        else:
            transitions = self._linked(visited.tolist())
        return torch.from_numpy(visited.copy()), transitions

    @property
    def _is_exact(self) -> bool:
        """Whether steps lead to the next timestep of the run, and not to one that is a ratio lower."""
        return bool(self.config.get("exact_schedule"))

    def _linked(self, timesteps: Sequence[int]) -> tuple[Transition, ...]:
        """The steps from each of the timesteps to the next one, and from the last one past the end."""
        return tuple(map(self._transition, timesteps, [*timesteps[1:], -1]))

    def _spaced(self, num_steps: int) -> Timesteps:
        if num_steps > len(self):
            raise ValueError(
                f"num_inference_steps must be at most {len(self)}, the number of timesteps that the network was"
                f" trained with, got {num_steps}."
            )
        config = self.config
        spaced = spaced_timesteps(config.timestep_spacing, num_steps, len(self), config.steps_offset)
        if (highest := spaced.max(initial=0)) > len(self) - 1:
            raise ValueError(
                f"{num_steps} steps with steps_offset={config.steps_offset} begin at timestep {highest:g}, and the"
                f" network was trained with those up to {len(self) - 1}; take fewer steps, or a steps_offset of 0."
            )
        return spaced.round().astype(np.int64)

    def _transition(self, timestep: int, next_timestep: int) -> Transition:
        """The step from one timestep to another one, which is past the end if it is negative."""
        return Transition(self._level(timestep), self._level(next_timestep, past_end=True), next_timestep < 0)

    def _transition_from(self, timestep: float | Tensor) -> Transition:
        """The held run's step from a timestep, which need not be one of the run's."""
        first, ratio = int(self._value(timestep)), len(self) // self._num_steps()
        if not self._is_exact:
            return self._transition(first, first - ratio)
        lower = [timestep for timestep in self._held.timesteps.tolist() if timestep < first]
        return self._transition(first, max(lower, default=-1))

    def _level(self, timestep: int, past_end: bool = False) -> Level:
        if past_end and timestep < 0:
            signal = float(self.final_alpha_cumprod)
        elif 0 <= timestep < len(self.alphas_cumprod):
            signal = float(self.alphas_cumprod[timestep])
        else:
            raise ValueError(
                f"timestep must lie between 0 (clean) and {len(self.alphas_cumprod) - 1} (noise), got {timestep}."
            )
        return Level(signal**0.5, (1 - signal) ** 0.5)


class LinkedScheduler(DiscreteScheduler):
    """Solvers that step from each timestep of a run to the next one."""

    def previous_timestep(self, timestep: int | Tensor) -> Tensor:
        """The timestep to which a step from this one leads; below 0 past the end."""
        first = int(self._value(timestep))
        if self.num_inference_steps is None:
            return torch.tensor(first - 1)
        visited = torch.cat([self._held.timesteps, torch.tensor([-1])])
        return visited[self._index_in(visited[:-1].double().numpy(), first) + 1]
