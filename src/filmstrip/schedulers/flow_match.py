"""What solvers of flow matching share: straight paths from noise to clean (arXiv:2209.03003, arXiv:2403.03206)."""

from __future__ import annotations

import logging
from dataclasses import KW_ONLY, dataclass, field
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.base import Scheduler
from filmstrip.schedulers.prediction import Level
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
from filmstrip.schedulers.settings import Exact, Respaced, Shifted, setting

logger = logging.getLogger(__name__)

RunType = TypeVar("RunType", bound="FlowMatchRun")


@dataclass(frozen=True, eq=False)
class FlowMatchSettings(Respaced, Shifted, Exact):
    """Settings of flow matching."""

    num_train_timesteps: int = setting("the timestep that stands for pure noise.", 1000)
    shift: float = setting("above 1, more steps are spent near pure noise.", 1.0)
    _: KW_ONLY
    base_shift: float | None = setting("`mu` of `base_image_seq_len` tokens; pipelines take it from that line.", 0.5)
    max_shift: float | None = setting("`mu` of `max_image_seq_len` tokens.", 1.15)
    base_image_seq_len: int = setting("one number of tokens.", 256)
    max_image_seq_len: int = setting("another one.", 4096)
    invert_sigmas: bool = setting("levels are shares of the clean video, rising to 1.", False)
    shift_terminal: float | None = setting("the last noise level before 0.", None)


@dataclass(frozen=True, eq=False)
class FlowMatchRun(Run):
    """The noise levels of one generation.

    The prediction is the velocity d(latents) / d(sigma) = noise - clean.
    """

    sigmas: Tensor  # before each call of the network and after the last one, float32, on the CPU
    timesteps: Tensor  # of each call, float32, on the CPU
    num_train_timesteps: int
    _: KW_ONLY
    generator: Generators = None
    levels: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.sigmas.tolist()))

    def noise_level(self, step_index: int) -> Level:
        return Level(1 - self.levels[step_index], self.levels[step_index])

    def add_noise(self, clean: Tensor, noise: Tensor, step_index: int) -> Tensor:
        return mixed(clean, noise, self.levels[step_index])


def mixed(clean: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
    """`(1 - sigma) * clean + sigma * noise` in one pass."""
    dtype = torch.promote_types(clean.dtype, noise.dtype)
    if isinstance(sigma, Tensor):
        return torch.lerp(clean.to(dtype), noise.to(dtype), sigma.to(dtype))
    return torch.lerp(clean.to(dtype), noise.to(dtype), sigma)


class FlowMatchScheduler(Scheduler, Generic[RunType]):
    """Schedules of a flow, and the calls of Diffusers' loops around them."""

    takes_whole_numbers = False
    knows_flows = True
    is_flow = True
    predicts = "flow_prediction"
    _held: RunType

    def _train(self, settings: FlowMatchSettings) -> None:
        """Hold the schedule of the training until set_timesteps is called."""
        respacing_of(self.config)
        self._settings = settings
        num_train_timesteps, shift = settings.num_train_timesteps, settings.shift
        self.set_shift(shift)
        trained = np.linspace(1, 0, num_train_timesteps, endpoint=False)
        if not settings.use_dynamic_shifting:
            trained = shift_levels(trained, shift)
        sigmas = torch.from_numpy(trained).float()
        self.sigma_max, self.sigma_min = sigmas[0].item(), sigmas[-1].item()
        self._hold(self._over(torch.cat([sigmas, torch.zeros(1)]), sigmas * num_train_timesteps))
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
    ) -> RunType:
        """The schedule and solver of one generation.

        Args:
            sigmas: noise levels from 1 down, still to be shifted and respaced as the settings say.
            timesteps: what the network is fed, used as given. Without `sigmas`, the levels are
                `timesteps / num_train_timesteps`, shifted and respaced too, except that with dynamic shifting and
                no `mu` they are used as they are.
            mu: the dynamic shift, where the settings ask for one.
            generator: of the noise that a solver may add.
        """
        if mu is not None and not self._settings.use_dynamic_shifting:
            raise ValueError("mu is the shift of schedulers with use_dynamic_shifting=True; leave it out.")
        given_sigmas = falling_levels("sigmas", sigmas, 1.0)
        given_timesteps = falling_levels("timesteps", timesteps, float(self.config.num_train_timesteps))
        num_steps = number_of_steps(num_inference_steps, given_sigmas, given_timesteps)
        if given_sigmas is None and given_timesteps is not None:
            levels = given_timesteps / self.config.num_train_timesteps
            if self._settings.use_dynamic_shifting and mu is None:
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
            lowest = 1 / self.config.num_train_timesteps if self._settings.exact_schedule else self.sigma_min
            levels = np.linspace(self.sigma_max, lowest, num_steps)
        return self._run(self._respaced(self._shifted(levels, mu)), given_timesteps, generator)

    def _shifted(self, levels: Levels, mu: float | None) -> Levels:
        if not self._settings.use_dynamic_shifting:
            return shift_levels(levels, self._shift)
        if mu is None:
            raise ValueError(
                "a scheduler with use_dynamic_shifting needs mu; compute it with calculate_shift(tokens, ...)."
            )
        return shift_levels(levels, dynamic_shift(mu, self._settings.time_shift_type))

    def _respaced(self, levels: Levels) -> Levels:
        if self._settings.shift_terminal:
            levels = stretch_to_terminal(levels, self._settings.shift_terminal)
        return respaced_levels(respacing_of(self.config), float(levels[0]), float(levels[-1]), levels)

    def _run(self, levels: Levels, given_timesteps: Levels | None = None, generator: Generators = None) -> RunType:
        """The run over these levels and the final one, with the given timesteps or those that follow from them."""
        sigmas = torch.from_numpy(levels).float()
        inverted = self._settings.invert_sigmas
        if inverted:
            sigmas = 1 - sigmas
        if inverted or given_timesteps is None:
            timesteps = sigmas * self.config.num_train_timesteps
        else:
            timesteps = torch.from_numpy(given_timesteps).float()
        end = torch.ones(1) if inverted else torch.zeros(1)
        return self._over(torch.cat([sigmas, end]), timesteps, generator)

    def _over(self, sigmas: Tensor, timesteps: Tensor, generator: Generators = None) -> RunType:
        """The run over (num_steps + 1,) levels and (num_steps,) timesteps."""
        raise NotImplementedError

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
        mu = mu if self._settings.use_dynamic_shifting else None
        self._hold(self.start(num_inference_steps, sigmas=sigmas, timesteps=timesteps, mu=mu), device)
        self.num_inference_steps = len(self._held.begins)

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """Clean latents as noisy as the held run is at each of the timesteps, (batch,).

        Once a first step was set or made, that step's level is used instead of the timesteps'.
        """
        sigma = self._held.sigmas[self._indices(timestep)].to(sample.device, sample.dtype)
        sigma = sigma.view(-1, *[1] * (sample.ndim - 1))
        return mixed(sample, noise, sigma)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """`scale_noise` under the name and argument order of the other schedulers."""
        return self.scale_noise(original_samples, timesteps, noise)
