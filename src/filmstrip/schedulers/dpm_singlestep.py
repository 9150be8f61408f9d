"""DPM-Solver and DPM-Solver++ within one step, from two or three calls of the network (arXiv:2206.00927)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.base import SchedulerOutput
from filmstrip.schedulers.dpm import DPMSolverRun, DPMSolverScheduler, DPMSolverSettings, Move
from filmstrip.schedulers.prediction import Level
from filmstrip.schedulers.settings import setting, taking


@dataclass(frozen=True, eq=False)
class DPMSolverSinglestepRun(DPMSolverRun):
    """Steps in blocks of up to three, each taken again from the beginning of its block."""

    begun: list[Tensor] = field(default_factory=list, init=False, repr=False)

    def _noise_dtype(self, latents: Tensor, prediction: Tensor) -> torch.dtype:
        return torch.promote_types(latents.dtype, prediction.dtype)

    def _weights(self, latents: Tensor, next_level: Level, levels: list[Level]) -> tuple[Move, Tensor, list[float]]:
        """The step from the latents of the block's beginning, with the block's estimates."""
        move = Move.of(self.algorithm, levels[-1], next_level)
        if len(levels) == 1:
            self.begun[:] = [latents]
            return move, latents, [move.zeroth]
        last, middle = ((level.log_snr - levels[-1].log_snr) / move.gain for level in (levels[0], levels[-2]))
        if len(levels) == 2:
            slope = (move.halfway if self.is_midpoint else move.first) / last
            return move, self.begun[0], [slope, move.zeroth - slope]
        newest, older = move.first / last, 0.0
        if not self.is_midpoint:
            newest = (2 * move.second - move.first * middle) / (last - middle) / last
            older = (move.first * last - 2 * move.second) / (last - middle) / middle
        return move, self.begun[0], [newest, older, move.zeroth - newest - older]


@dataclass(frozen=True, eq=False, kw_only=True)
class DPMSolverSinglestepSettings(DPMSolverSettings):
    """Settings of DPM-Solver within one step."""

    lower_order_final: bool = setting(
        "the last block is shorter. Where a block would be cut, or end at no noise, it always is.", False
    )

    foreign: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **DPMSolverSettings.foreign,
        "algorithm_type": (*DPMSolverSettings.foreign["algorithm_type"], "sde-dpmsolver"),
    }


class DPMSolverSinglestepScheduler(DPMSolverScheduler):
    """Settings of DPM-Solver within one step, whose `solver_order` calls of the network count as steps here."""

    _run_type = DPMSolverSinglestepRun

    @taking(DPMSolverSinglestepSettings)
    def __init__(self, settings: DPMSolverSinglestepSettings) -> None:
        self._prepare(settings)

    def step(  # type: ignore[override]  # the reference has return_dict last
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """One step of the held run; the first one is found by its timestep."""
        return self._stepped(model_output, timestep, sample, return_dict, generator=generator)

    def _orders(self, num_steps: int) -> tuple[int, ...]:
        block = self.config.solver_order
        orders = [index % block + 1 for index in range(num_steps)]
        ends_at_zero = self.config.final_sigmas_type == "zero"
        if ends_at_zero or (self.config.lower_order_final and num_steps % block == 0):
            orders[-1] = 1
        return tuple(orders)
