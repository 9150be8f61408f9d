"""DPM-Solver and DPM-Solver++ within one step, from two or three calls of the network (arXiv:2206.00927)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from filmstrip.randomness import Generators
from filmstrip.schedulers.base import SchedulerOutput
from filmstrip.schedulers.dpm import FOREIGN_ALGORITHMS, DPMSolverRun, DPMSolverScheduler, Move
from filmstrip.schedulers.prediction import Level
from filmstrip.schedulers.schedule import Numbers


@dataclass(frozen=True, eq=False)
class DPMSolverSinglestepRun(DPMSolverRun):
    """Steps in blocks of up to three, each taken again from the beginning of its block."""

    begun: list[Tensor] = field(default_factory=list, init=False, repr=False)

    def _noise_dtype(self, latents: Tensor, prediction: Tensor) -> torch.dtype:
        return torch.promote_types(latents.dtype, prediction.dtype)

    def _weights(self, latents: Tensor, next_level: Level, levels: list[Level]) -> tuple[Move, Tensor, list[float]]:
        """The step from the latents of the block's beginning, with the block's estimates."""
        move = Move.between(levels[-1], next_level, self.algorithm)
        if len(levels) == 1:
            self.begun[:] = [latents]
            return move, latents, [move.zeroth]
        gain = next_level.log_snr - levels[-1].log_snr
        last, middle = ((level.log_snr - levels[-1].log_snr) / gain for level in (levels[0], levels[-2]))
        if len(levels) == 2:
            slope = (move.halfway if self.is_midpoint else move.first) / last
            return move, self.begun[0], [slope, move.zeroth - slope]
        newest, older = move.first / last, 0.0
        if not self.is_midpoint:
            newest = (2 * move.second - move.first * middle) / (last - middle) / last
            older = (move.first * last - 2 * move.second) / (last - middle) / middle
        return move, self.begun[0], [newest, older, move.zeroth - newest - older]


class DPMSolverSinglestepScheduler(DPMSolverScheduler):
    """Settings of DPM-Solver within one step, whose `solver_order` calls of the network count as steps here.

    Args:
        lower_order_final: the last block is shorter. Where a block would be cut, or end at no noise, it always is.

    The others are those of `DPMSolverMultistepScheduler`.
    """

    _run_type = DPMSolverSinglestepRun
    _foreign = (*FOREIGN_ALGORITHMS, "sde-dpmsolver")

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Numbers | None = None,
        solver_order: int = 2,
        prediction_type: Literal["epsilon", "sample", "v_prediction", "flow_prediction"] = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        algorithm_type: Literal["dpmsolver", "dpmsolver++", "sde-dpmsolver++"] = "dpmsolver++",
        solver_type: Literal["midpoint", "heun"] = "midpoint",
        lower_order_final: bool = False,
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        use_beta_sigmas: bool | None = False,
        use_flow_sigmas: bool | None = False,
        flow_shift: float | None = 1.0,
        final_sigmas_type: Literal["zero", "sigma_min"] | None = "zero",
        lambda_min_clipped: float = -math.inf,
        variance_type: str | None = None,
        use_dynamic_shifting: bool = False,
        time_shift_type: Literal["exponential"] = "exponential",
    ) -> None:
        self._train()

    def step(
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
