"""Pseudo numerical methods: DDIM's transfer along slopes of fourth order (arXiv:2202.09778)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.base import SchedulerOutput
from filmstrip.schedulers.diffusion import Timesteps
from filmstrip.schedulers.discrete import DiscreteRun, DiscreteScheduler, Ending, Transition
from filmstrip.schedulers.prediction import Terms, combine, noise_weights, scaled
from filmstrip.schedulers.settings import Exact, setting, taking

_ORDER = 4
_RUNGE_KUTTA = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
# Adams and Bashforth's weights of the predictions, newest first, by how many there are.
_MULTISTEP = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@dataclass(frozen=True, eq=False, kw_only=True)
class PNDMRun(DiscreteRun):
    """The calls of one generation: a warm-up after Runge and Kutta, four calls a step, and then one call a step."""

    num_warm_up: int = 0  # calls
    predictions: list[Tensor] = field(default_factory=list, init=False, repr=False)  # of whole steps, oldest first
    begun: list[Tensor] = field(default_factory=list, init=False, repr=False)  # latents that are stepped from again
    stages: list[Tensor] = field(default_factory=list, init=False, repr=False)  # predictions of a Runge-Kutta step

    @property
    def begins(self) -> list[int]:
        after = self.num_warm_up or min(2, len(self.timesteps))  # without a warm-up, the first step is taken twice
        first = [*range(0, self.num_warm_up, 4)] if self.num_warm_up else [0]
        return [*first, *range(after, len(self.timesteps))]

    def solve(self, prediction: Tensor, step_index: int, latents: Tensor, generator: Generators) -> Tensor:
        transition = self.transitions[step_index]
        if step_index < self.num_warm_up:
            return self.warm_up(prediction, latents, transition, step_index % 4)
        again = step_index == 1 and len(self.predictions) == 1 and bool(self.begun)
        return self.multistep(prediction, latents, transition, again=again)

    def warm_up(self, prediction: Tensor, latents: Tensor, transition: Transition, stage: int) -> Tensor:
        """One of the four calls of a Runge-Kutta step, each from the latents of the first one."""
        if stage == 0:
            self.predictions.append(prediction)
            self.begun[:], self.stages[:] = [latents], []
        self.stages.append(prediction)
        slope: Terms = [(1.0, prediction)]
        if stage == 3:
            slope = list(zip(_RUNGE_KUTTA[-len(self.stages) :], self.stages, strict=True))
            self.stages.clear()
        return self._transferred(self.begun[0] if self.begun else latents, slope, transition)

    def multistep(self, prediction: Tensor, latents: Tensor, transition: Transition, again: bool) -> Tensor:
        """One step, from the predictions of up to four steps.

        Args:
            again: the step before is taken again, with the mean of the predictions at both of its ends.
        """
        if again:
            return self._transferred(self.begun.pop(), [(0.5, prediction), (0.5, self.predictions[-1])], transition)
        self.predictions[:] = [*self.predictions[1 - _ORDER :], prediction]
        self.begun[:] = [latents] if len(self.predictions) == 1 else []
        weights = _MULTISTEP[len(self.predictions) - 1]
        return self._transferred(latents, list(zip(weights, reversed(self.predictions), strict=True)), transition)

    def _transferred(self, latents: Tensor, slope: Terms, transition: Transition) -> Tensor:
        """DDIM's step along a mean of predictions (equation 11)."""
        (alpha, sigma), (next_alpha, next_sigma), _ = transition
        noise = noise_weights(self.estimator.prediction_type, transition.level)
        moved = next_sigma - next_alpha * sigma / alpha
        terms = scaled(moved * noise.prediction, slope)
        return combine((next_alpha / alpha + moved * noise.latents, latents), *terms)


@dataclass(frozen=True, eq=False, kw_only=True)
class PNDMSettings(Exact, Ending):
    """Settings of pseudo numerical methods."""

    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    set_alpha_to_one: bool = False
    skip_prk_steps: bool = setting(
        "without the warm-up of Runge-Kutta steps; the first step is then taken twice.", False
    )


class PNDMScheduler(DiscreteScheduler):
    """Settings of pseudo numerical methods."""

    pndm_order = _ORDER
    counter = 0  # calls since `set_timesteps`

    _held: DiscreteRun

    @taking(PNDMSettings)
    def __init__(self, settings: PNDMSettings) -> None:
        self._train()
        self.prk_timesteps = self.plms_timesteps = np.array([], dtype=np.int64)

    def start(self, num_inference_steps: int | None = None) -> PNDMRun:
        """The schedule and solver of one generation, which calls the network more often than it steps."""
        calls = self._calls(num_inference_steps)
        timesteps = np.concatenate(calls)
        ratio = len(self) // (num_inference_steps or 1)
        transitions = tuple(self._call(int(timestep), index, calls, ratio) for index, timestep in enumerate(timesteps))
        visited = torch.from_numpy(timesteps)
        return PNDMRun(visited, transitions, estimator=self._estimator, num_warm_up=len(calls[0]))

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        self._hold_new(device, num_inference_steps)
        self.prk_timesteps, self.plms_timesteps = self._calls(num_inference_steps)
        self.counter = 0

    @property
    def ets(self) -> list[Tensor]:
        """The network's predictions that the next step of the held run is made of, oldest first."""
        return self._begun_run().predictions

    @ets.setter
    def ets(self, predictions: list[Tensor]) -> None:
        self._begun_run().predictions[:] = predictions

    def step(
        self, model_output: Tensor, timestep: int | Tensor, sample: Tensor, return_dict: bool = True
    ) -> SchedulerOutput | tuple[Tensor]:
        """The held run's next call: of the warm-up, or after it."""
        take = self.step_prk if self.counter < len(self.prk_timesteps) else self.step_plms
        return take(model_output, timestep, sample, return_dict)

    def step_prk(
        self, model_output: Tensor, timestep: int | Tensor, sample: Tensor, return_dict: bool = True
    ) -> SchedulerOutput | tuple[Tensor]:
        """The next call of the warm-up."""
        transition = self._due_call(timestep)
        latents = self._begun_run().warm_up(model_output, sample, transition, self.counter % 4)
        return self._counted(latents.to(torch.promote_types(sample.dtype, model_output.dtype)), return_dict)

    def step_plms(
        self, model_output: Tensor, timestep: int | Tensor, sample: Tensor, return_dict: bool = True
    ) -> SchedulerOutput | tuple[Tensor]:
        """The next call after the warm-up."""
        run = self._begun_run()
        again = self.counter == 1 and len(run.predictions) == 1 and bool(run.begun)
        transition = self._due_call(timestep, self.prk_timesteps[:0])
        latents = run.multistep(model_output, sample, transition, again)
        return self._counted(latents.to(torch.promote_types(sample.dtype, model_output.dtype)), return_dict)

    def _due_call(self, timestep: int | Tensor, warm_up: Timesteps | None = None) -> Transition:
        ratio = len(self) // self._num_steps()
        calls = self.prk_timesteps if warm_up is None else warm_up, self.plms_timesteps
        return self._call(int(self._value(timestep)), self.counter, calls, ratio)

    def _counted(self, latents: Tensor, return_dict: bool) -> SchedulerOutput | tuple[Tensor]:
        self.counter += 1
        return SchedulerOutput(latents) if return_dict else (latents,)

    def _begun_run(self) -> PNDMRun:
        self._num_steps()
        return cast(PNDMRun, self._held)

    def _calls(self, num_inference_steps: int | None) -> tuple[Timesteps, Timesteps]:
        """The timesteps at which the network is called, in the warm-up and after it."""
        visited, _ = self._schedule(num_inference_steps, None)
        steps = visited.numpy()
        if self.config.skip_prk_steps:
            return steps[:0], np.concatenate([steps[:2], steps[1:2], steps[2:]])
        if len(steps) < _ORDER:
            raise ValueError(
                f"`num_inference_steps` must be >= {_ORDER}, which the warm-up takes, got {len(steps)};"
                " use skip_prk_steps=True for fewer."
            )
        middles = steps[:_ORDER] + len(self) // len(steps) // 2
        if self._is_exact:
            middles = np.append(steps[:1], (steps[: _ORDER - 1] + steps[1:_ORDER]) // 2)
        ends = np.stack([middles, steps[:_ORDER]], axis=1).flatten()[1:]
        return ends.repeat(2)[1:-1], steps[_ORDER - 1 :]

    def _call(self, timestep: int, index: int, calls: tuple[Timesteps, Timesteps], ratio: int) -> Transition:
        """The step that a call of the network decides."""
        warm_up, others = calls
        if index < len(warm_up):
            after = int(warm_up[index | 1]) if self._is_exact else timestep - (0 if index % 2 else ratio // 2)
            return self._transition(int(warm_up[index // 4 * 4]), after)
        higher, lower = timestep + ratio, timestep - ratio
        if self._is_exact:
            higher = int(others[others > timestep].min(initial=len(self) - 1))
            lower = int(others[others < timestep].max(initial=-1))
        if index == 1 and not len(warm_up):  # the first step once more, from its beginning
            return self._transition(higher, timestep)
        return self._transition(timestep, lower)
