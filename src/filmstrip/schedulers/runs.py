"""One generation's schedule and solver, and what it remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.prediction import Estimator, Level, combine


class Run:
    """One generation's schedule and solver, made by a scheduler's `start`; runs share nothing."""

    timesteps: Tensor  # what the network is fed: (num_steps,), float32 or whole numbers, on the CPU
    sigmas: Tensor  # noise level before each step and after the last one: (num_steps + 1,), float32, on the CPU
    init_noise_sigma: float = 1.0  # standard deviation of the noise that the run starts from
    generator: Generators = None  # of the noise that some solvers add

    order: ClassVar[int] = 1

    @property
    def begins(self) -> range | list[int]:
        """Where each step begins among the calls of the network, of which some solvers make several for a step."""
        return range(0, len(self.timesteps), self.order)

    def call_before_end(self, steps: int) -> int:
        """The call at which the step begins that this many others follow."""
        return self.begins[len(self.begins) - 1 - steps]

    def call_below(self, timestep: float) -> int:
        """The call at which the first step begins whose timestep is below; past the end if there is none."""
        return next((call for call in self.begins if self.timesteps[call] < timestep), len(self.timesteps))

    def begin_of(self, strength: float) -> int:
        """The call at which a run begins that makes this share of its steps, those at the clean end; all leaves none.

        As in the reference, the number of steps is rounded down.
        """
        begins = [*self.begins, len(self.timesteps)]
        return begins[max(len(begins) - 1 - int((len(begins) - 1) * strength), 0)]

    def noise_level(self, step_index: int) -> Level:
        """How noisy latents are before this step."""
        raise NotImplementedError

    def scale_input(self, latents: Tensor, step_index: int) -> Tensor:
        """The latents as the network wants to see them at this step; most want them as they are."""
        return latents

    def step(self, prediction: Tensor, step_index: int, latents: Tensor, *, generator: Generators = None) -> Tensor:
        """The latents after the step, given the network's prediction for them; computed in float32 or wider.

        Args:
            generator: of the noise that some solvers add; the run's own if None.
        """
        stepped = self.solve(prediction, step_index, latents, self.generator if generator is None else generator)
        return stepped.to(torch.promote_types(latents.dtype, prediction.dtype))

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        """The solver's part of `step`, in float32 or wider."""
        raise NotImplementedError

    def add_noise(self, clean: Tensor, noise: Tensor, step_index: int) -> Tensor:
        """Clean latents as noisy as they are before this step."""
        alpha, sigma = self.noise_level(step_index)
        return combine((alpha, clean), (sigma, noise)).to(torch.promote_types(clean.dtype, noise.dtype))


@dataclass(frozen=True, eq=False)
class TrainedRun(Run):
    """A run whose network was trained with a table of noise levels."""

    timesteps: Tensor
    _: KW_ONLY
    estimator: Estimator
    generator: Generators = None


class FramesFirst(Run):
    """A run of videos whose solver sees the frames before the channels.

    Noise that it draws is then that of pictures, frame by frame, in whose order the reference draws it for networks
    that work on pictures; what is drawn for a video still comes from the video's own generator.
    """

    def __init__(self, run: Run) -> None:
        self.run = run  # with what it remembers
        self.timesteps, self.sigmas, self.init_noise_sigma = run.timesteps, run.sigmas, run.init_noise_sigma

    @property
    def begins(self) -> range | list[int]:
        """As the solver's."""
        return self.run.begins

    def noise_level(self, step_index: int) -> Level:
        return self.run.noise_level(step_index)

    def scale_input(self, latents: Tensor, step_index: int) -> Tensor:
        return self.run.scale_input(latents, step_index)

    def step(self, prediction: Tensor, step_index: int, latents: Tensor, *, generator: Generators = None) -> Tensor:
        """The latents, (batch, channels, frames, height, width), after the step."""
        turned = prediction.transpose(1, 2), step_index, latents.transpose(1, 2)
        return self.run.step(*turned, generator=generator).transpose(1, 2)


def memory_of(run: Run) -> dict[str, Any]:
    """What a run remembers of the steps that it has made: its lists, and those of a run within it.

    The rest of a run never changes. Lists are copied, tensors are not.
    """
    parts = vars(run).items()
    lists = {name: _copied(value) for name, value in parts if isinstance(value, list)}
    return lists | {name: memory_of(value) for name, value in parts if isinstance(value, Run)}


def remember(run: Run, memory: Mapping[str, Any], device: torch.device | str | None = None) -> None:
    """Let a run of the same schedule go on from what `memory_of` gave, with its tensors on a device."""
    for name, value in memory.items():
        part = vars(run)[name]
        if isinstance(part, list):
            part[:] = _copied(value, device)
        else:
            remember(part, value, device)


def _copied(memory: Any, device: torch.device | str | None = None) -> Any:
    if type(memory) in (list, tuple):
        return type(memory)(_copied(one, device) for one in memory)
    return memory.to(device) if isinstance(memory, Tensor) and device is not None else memory
