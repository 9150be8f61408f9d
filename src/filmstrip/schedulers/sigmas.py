"""What schedulers share whose runs follow sigmas, the ratios of noise to signal, that are read off a table."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np

from filmstrip.schedulers.base import TrainedScheduler
from filmstrip.schedulers.diffusion import SigmaTable
from filmstrip.schedulers.runs import SolverRun
from filmstrip.schedulers.schedule import Levels, respacing_of

RunType = TypeVar("RunType", bound=SolverRun)


class SigmaScheduler(TrainedScheduler, Generic[RunType]):
    """The table, and the rule by which sigmas are spread, if it is another one than that of the timesteps."""

    _run_type: type[RunType]
    _least_signal = 2.0**-24  # so that sigmas stay finite

    def _train(self) -> None:
        super()._train()
        self._table = SigmaTable.of(self.alphas_cumprod)
        self._respacing = respacing_of(self.config)

    def _trained(self) -> tuple[Levels, Levels]:
        """All timesteps of the training and their sigmas, with the end."""
        return np.arange(len(self) - 1, -1, -1.0), np.append(self._table.sigmas[::-1], 0.0)

    def _ends(self, first: Any, last: Any) -> tuple[float, float]:
        """Between which respaced sigmas lie: those of the settings, or else these."""
        highest, lowest = self.config.get("sigma_max"), self.config.get("sigma_min")
        return float(first if highest is None else highest), float(last if lowest is None else lowest)
