"""What solvers share that remember earlier steps and see latents of unit variance, or those of a flow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from filmstrip.schedulers.base import SchedulerOutput, SigmaScheduler
from filmstrip.schedulers.diffusion import spaced_timesteps, whole_timesteps
from filmstrip.schedulers.prediction import Level, Terms, joined, scaled
from filmstrip.schedulers.runs import TrainedRun
from filmstrip.schedulers.schedule import (
    Levels,
    Numbers,
    dynamic_shift,
    falling_levels,
    number_of_steps,
    respaced_levels,
    shift_levels,
    stretch_to_terminal,
)
from filmstrip.schedulers.settings import Respaced, Settings, Shifted, Thresholded, Trained, setting

RunType = TypeVar("RunType", bound="MultistepRun")

Estimate = tuple[Level, Terms]  # of the clean latents or the noise, told as a weighted sum


@dataclass(frozen=True, eq=False, kw_only=True)
class Ordered(Settings):
    """The order of a solver."""

    solver_order: int = setting("from how many estimates each step is made, 1 to 3.", 2)
    lower_order_final: bool = setting("the last steps of runs with less than 15 are of lower order.", True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.solver_order < 1:
            raise ValueError(f"solver_order must be at least 1, got {self.solver_order}.")


@dataclass(frozen=True, eq=False, kw_only=True)
class UnitOrFlow(Thresholded, Respaced, Shifted, Trained):
    """What is followed: latents of unit variance, or those of a flow."""

    prediction_type: Literal["epsilon", "sample", "v_prediction", "flow_prediction"] = "epsilon"
    use_flow_sigmas: bool | None = setting("levels of a flow, `(1 - sigma) * clean + sigma * noise`.", False)
    flow_shift: float | None = setting("the shift of these levels.", 1.0)
    shift_terminal: float | None = setting("the last noise level of a flow before the end.", None, is_ours=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shift_terminal is not None and not self.use_flow_sigmas:
            raise ValueError("shift_terminal is a level of a flow; set use_flow_sigmas=True, or leave it out.")


@dataclass(frozen=True, eq=False, kw_only=True)
class MultistepSettings(Ordered, UnitOrFlow):
    """Settings of solvers that remember earlier steps."""


@dataclass(frozen=True, eq=False)
class MultistepRun(TrainedRun):
    """The noise levels of one generation, and what its solver remembers of earlier steps."""

    sigmas: Tensor  # (num_steps + 1,), float32, on the CPU
    levels: tuple[Level, ...]  # before each step and after the last one
    _: KW_ONLY
    orders: tuple[int, ...] = ()  # of each step, if there are enough estimates
    history: list[Estimate] = field(default_factory=list, init=False, repr=False)

    def noise_level(self, step_index: int) -> Level:
        return self.levels[step_index]

    def estimates(
        self, prediction: Tensor, step_index: int, latents: Tensor, *, of_noise: bool, reach: int | None = None
    ) -> list[Estimate]:
        """What is known, newest first: this step's estimate, and those of the earlier ones that its order takes.

        Args:
            reach: up to how many are given, whatever the order; the newest one, too, is then a sum of one tensor.
        """
        level, length = self.levels[step_index], reach or max(self.orders)
        read = self.estimator.noise_terms if of_noise else self.estimator.clean_terms
        current = read(prediction[:, : latents.shape[1]], latents, level)  # a learned variance comes behind
        if length > 1:
            newest, earlier = (level, joined(current)), self.history[: length - 1]
            self.history[:] = [newest, *earlier][: length - 1]
            return [newest, *earlier] if reach else [(level, current), *earlier][: self.orders[step_index]]
        return [(level, current)]


def lowered(orders: list[int], config: Mapping[str, Any]) -> tuple[int, ...]:
    """Orders of a run's steps, the last two lowered if the run is short and the settings say so."""
    if config["lower_order_final"] and len(orders) < 15:
        orders[-2:] = [min(order, least) for order, least in zip(orders[-2:], (2, 1)[-len(orders) :], strict=True)]
    return tuple(orders)


def stepped(scale: float, latents: Tensor, weights: Sequence[float], known: Sequence[Estimate]) -> Terms:
    """Latents and estimates, weighed."""
    pairs = zip(weights, known, strict=True)
    return [(scale, latents), *(term for weight, (_, terms) in pairs for term in scaled(weight, terms))]


class MultistepScheduler(SigmaScheduler[RunType]):
    """Schedules in sigmas or in levels of a flow, and the calls of Diffusers' loops around them."""

    _held: RunType
    knows_flows = True
    begins_anywhere = True
    ends_with_last: ClassVar[bool] = False  # a respaced schedule that ends above zero repeats its last level

    @property
    def is_flow(self) -> bool:  # type: ignore[override]  # here the settings decide
        """Whether these settings are of flow matching, with levels `(1 - sigma) * clean + sigma * noise`."""
        return bool(self.config.use_flow_sigmas)

    def _train(self) -> None:
        super()._train()
        if self.config.get("use_lu_lambdas"):
            if self._respacing is not None:
                raise ValueError(f"only one spacing of sigmas can be used, got lu and {self._respacing}.")
            self._respacing = "exponential"  # even logarithms of signal to noise are the same
        # Until set_timesteps is called, the layer holds the schedule of the training.
        visited, sigmas = self._trained()
        self._hold(self._run(visited.astype(np.int64), sigmas))

    def step(
        self, model_output: Tensor, timestep: int | Tensor, sample: Tensor, return_dict: bool = True
    ) -> SchedulerOutput | tuple[Tensor]:
        """One step of the held run; the first one is found by its timestep."""
        return self._stepped(model_output, timestep, sample, return_dict)

    def _set(self, device: str | torch.device | None, **given: Any) -> None:
        """Hold the run that `start` makes of one of the numbers of steps, timesteps and sigmas."""
        sources = [name for name in ("num_inference_steps", "timesteps", "sigmas") if given.get(name) is not None]
        if len(sources) > 1:
            raise ValueError(f"set_timesteps takes one of {', '.join(sources)}, got all of them.")
        self._hold(self.start(**given), device)
        self.num_inference_steps = len(self._timesteps)

    def _stepped(
        self, model_output: Tensor, timestep: float | Tensor, sample: Tensor, return_dict: bool, **more: Any
    ) -> SchedulerOutput | tuple[Tensor]:
        """The held run's next step."""
        self._num_steps()
        latents = self._held.step(model_output, self._next_index(timestep), sample, **more)
        return SchedulerOutput(latents) if return_dict else (latents,)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Clean latents as noisy as the held run is at each of the timesteps, (batch,).

        Once a first step was set or made, that step's level is used instead of the timesteps'.
        """
        table = torch.tensor(self._held.levels)[self._indices(timesteps)].to(original_samples.device)  # (batch, 2)
        alpha, sigma = table.T.reshape(2, -1, *[1] * (original_samples.ndim - 1))
        noisy = alpha * original_samples + sigma * noise
        return noisy.to(torch.promote_types(original_samples.dtype, noise.dtype))

    def _level(self, sigma: float) -> Level:
        if self.is_flow:
            return Level(1 - sigma, sigma)
        alpha = 1 / math.hypot(sigma, 1)
        return Level(alpha, sigma * alpha)

    def _schedule(
        self,
        num_inference_steps: int | None,
        timesteps: Numbers | None = None,
        sigmas: Numbers | None = None,
        mu: float | None = None,
    ) -> tuple[NDArray[Any], Levels]:
        """Timesteps and sigmas of a run, the last sigma included.

        As in the reference, timesteps are cut to whole numbers; those that are given to a flow stay as they are.
        """
        levels = falling_levels("sigmas", sigmas, 1.0)
        given: NDArray[Any] | None = whole_timesteps(timesteps, len(self)) if not self.is_flow else None
        if self.is_flow:
            given = falling_levels("timesteps", timesteps, float(len(self)))
        num_steps = number_of_steps(num_inference_steps, levels, given)
        self._check_given(levels, given, mu)
        if self.is_flow and (self._respacing is None or levels is not None or given is not None):
            is_final = levels is None and given is not None and self.config.get("use_dynamic_shifting") and mu is None
            if levels is None and given is not None:
                levels = given / len(self)
            levels = levels if levels is not None and is_final else self._flow_levels(num_steps, levels, mu)
            levels = np.minimum(levels, 1 - 1e-6)  # with no signal at all, the first step would have no direction
            visited = levels * len(self) if given is None else given
        elif self._respacing is None:
            visited = self._spaced(num_steps) if given is None else given.astype(np.float64)
            levels = self._table.at(visited)
        else:
            levels, visited = self._respaced(num_steps)
        if not self._ends_above_zero():
            final = 0.0
        elif self.ends_with_last and (self.is_flow or self._respacing is not None):
            final = float(levels[-1])
        else:
            final = float(self._table.sigmas[0])
        is_as_given = self.is_flow and given is not None
        return visited.astype(np.float32 if is_as_given else np.int64), np.append(levels, final)

    def _check_given(self, sigmas: Levels | None, timesteps: NDArray[Any] | None, mu: float | None) -> None:
        """See that a run's schedule can be chosen so with these settings."""
        is_plain, is_chosen = self._respacing is None, sigmas is not None or timesteps is not None
        if mu is not None and not (self.config.get("use_dynamic_shifting") and self.is_flow):
            raise ValueError("mu is the shift of schedulers with use_dynamic_shifting=True; leave it out.")
        if mu is not None and not (is_plain or is_chosen):
            raise ValueError(f"mu has no effect with use_{self._respacing}_sigmas, which chooses the levels; drop it.")
        if sigmas is not None and not self.is_flow:
            raise ValueError("sigmas can be chosen only with use_flow_sigmas=True; leave them out.")
        if timesteps is not None and not (is_plain or self.is_flow):
            raise ValueError("timesteps can't be chosen where the settings choose the sigmas; leave them out.")

    def _ends_above_zero(self) -> bool:
        return bool(self.config.get("final_sigmas_type") == "sigma_min")

    def _rounds_respaced(self) -> bool:
        """Whether the timesteps of respaced sigmas are rounded, instead of cut, to whole numbers."""
        return bool(self.config.use_karras_sigmas)

    def _respaced(self, num_steps: int) -> tuple[Levels, Levels]:
        """Sigmas between those of the training or the settings, and their timesteps."""
        table = self._table.sigmas
        if self.config.get("use_lu_lambdas"):
            table = np.exp(np.log(table).astype(np.float64))  # as the reference rounds them
        levels = respaced_levels(self._respacing, *self._ends(table[-1], table[0]), np.empty(num_steps))
        if self.is_flow:
            levels = levels / (levels + 1)
            return levels, levels * len(self)
        visited = self._table.timesteps_of(levels)
        return levels, visited.round() if self._rounds_respaced() else visited

    def _flow_levels(self, num_steps: int, given: Levels | None, mu: float | None) -> Levels:
        """Shares of noise, shifted, and those that were given respaced too."""
        levels = shift_levels(self._even_levels(num_steps) if given is None else given, self._shift(mu))
        if self.config.get("shift_terminal"):
            levels = stretch_to_terminal(levels, self.config.shift_terminal)
        return respaced_levels(self._respacing, float(levels[0]), float(levels[-1]), levels)

    def _even_levels(self, num_steps: int) -> Levels:
        """Shares of noise, not yet shifted."""
        return (1 - np.linspace(1, 1 / len(self), num_steps + 1))[:0:-1]

    def _shift(self, mu: float | None) -> float:
        if mu is None:
            return float(self.config.flow_shift)
        return dynamic_shift(mu, self.config.get("time_shift_type", "exponential"))

    def _spaced(self, num_steps: int) -> Levels:
        config, used = self.config, len(self)
        if math.isfinite(lowest := config.get("lambda_min_clipped", -math.inf)):
            log_snr = -np.log(self._table.sigmas)  # falling
            used = int((log_snr >= lowest).sum())
        spacing, offset = config.get("timestep_spacing", "linspace"), config.get("steps_offset", 0)
        return spaced_timesteps(spacing, num_steps, len(self), offset, left_out=1, highest=used).round()

    def _run(self, timesteps: NDArray[Any], sigmas: Levels, **more: Any) -> RunType:
        """The run over a schedule."""
        narrow = torch.from_numpy(np.asarray(sigmas, dtype=np.float32))
        levels = tuple(map(self._level, narrow.tolist()))
        return self._run_type(torch.from_numpy(timesteps), narrow, levels, estimator=self._estimator, **more)
