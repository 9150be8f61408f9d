"""Arithmetic of trained noise schedules: betas, the share of signal they leave, and which timesteps are visited.

A network is trained at whole-number timesteps. At each one, latents are `alpha * clean + sigma * noise`, and the
tables hold `alpha ** 2` as `alphas_cumprod`. They are built in the reference's precision, since rounding is part of
the numbers that a checkpoint is compared by; what is computed from them is in float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from filmstrip.checks import check_choice
from filmstrip.schedulers.schedule import Levels, Numbers, falling_levels

Timesteps = NDArray[np.int64]


def beta_table(
    schedule: str,
    start: float,
    end: float,
    count: int,
    trained: Numbers | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Variance of the noise that each timestep adds: (count,).

    Args:
        trained: the table itself; nothing else is then looked at.
        dtype: in which the scaled linear schedule is computed.
    """
    if trained is not None:
        return torch.as_tensor(trained, dtype=torch.float32)
    check_choice("beta_schedule", schedule, (*_TABLES, *_SHARES))
    if schedule in _SHARES:
        shares = [_SHARES[schedule](step / count) for step in range(count + 1)]
        return torch.tensor([min(1 - after / before, 0.999) for before, after in itertools.pairwise(shares)])
    return _TABLES[schedule](start, end, count, dtype)


_TABLES: dict[str, Callable[[float, float, int, torch.dtype], Tensor]] = {
    "linear": lambda start, end, count, dtype: torch.linspace(start, end, count),
    "scaled_linear": lambda start, end, count, dtype: torch.linspace(start**0.5, end**0.5, count, dtype=dtype) ** 2,
    "sigmoid": lambda start, end, count, dtype: torch.linspace(-6, 6, count).sigmoid() * (end - start) + start,
}


def _laplace_share(time: float) -> float:
    """Share of signal of the Laplace schedule (arXiv:2407.03297)."""
    log_snr = -0.5 * math.copysign(1, 0.5 - time) * math.log(1 - 2 * abs(0.5 - time) + 1e-6)
    return (math.exp(log_snr) / (1 + math.exp(log_snr))) ** 0.5


# The share of signal as a function of time in [0, 1]; "squaredcos_cap_v2" is equation 17 of arXiv:2102.09672.
_SHARES: dict[str, Callable[[float], float]] = {
    "squaredcos_cap_v2": lambda time: math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2,
    "laplace": _laplace_share,
    "exp": lambda time: math.exp(-12 * time),
}


def without_signal_at_the_end(alphas_cumprod: Tensor) -> Tensor:
    """Shift and scale the signal so that none is left at the last timestep (arXiv:2305.08891, algorithm 1)."""
    signal = alphas_cumprod.sqrt()
    first, last = signal[0].clone(), signal[-1].clone()
    return ((signal - last) * (first / (first - last))) ** 2


def betas_without_signal_at_the_end(betas: Tensor) -> Tensor:
    """The betas whose signal is that of `without_signal_at_the_end`."""
    signal = without_signal_at_the_end(torch.cumprod(1 - betas, dim=0))
    return 1 - torch.cat([signal[:1], signal[1:] / signal[:-1]])


def spaced_timesteps(
    spacing: str,
    num_steps: int,
    num_train_timesteps: int,
    offset: int = 0,
    *,
    left_out: int = 0,
    highest: int | None = None,
) -> Levels:
    """Timesteps of a run from noise to clean, spread over those of the training (arXiv:2305.08891, table 2).

    Those of the linspace spacing are not rounded yet.

    Args:
        offset: added to the timesteps of the leading spacing.
        left_out: how many steps are spaced out too, but not taken, at the clean end (not if the spacing is trailing).
        highest: the number of timesteps that are used, counted from the clean end; all if None.
    """
    used = num_train_timesteps if highest is None else highest
    points = num_steps + (0 if spacing == "trailing" else left_out)
    if spacing == "linspace":
        return np.linspace(0, used - 1, points)[::-1][:num_steps]
    if points > used:
        raise ValueError(
            f"num_inference_steps must be at most {used - points + num_steps} with timestep_spacing={spacing!r}, since"
            f" the network was trained with {num_train_timesteps} timesteps, got {num_steps}."
        )
    if spacing == "leading":
        return np.arange(points, dtype=np.float64)[::-1][:num_steps] * (used // points) + offset
    assert spacing == "trailing", spacing
    size = num_train_timesteps / num_steps
    visited = math.ceil(used / size - 1e-9)
    return np.round(used - np.arange(visited) * size) - 1


def whole_timesteps(timesteps: Numbers | None, num_train_timesteps: int) -> Timesteps | None:
    """The timesteps that a user chose, checked to be whole numbers that fall from noise to clean."""
    levels = falling_levels("timesteps", timesteps, num_train_timesteps - 1)
    if levels is None:
        return None
    whole = levels.astype(np.int64)
    if (whole != levels).any():
        raise ValueError(f"timesteps must be whole numbers, got {levels.tolist()}.")
    if (np.diff(whole) == 0).any():
        raise ValueError(f"timesteps must not repeat, got {whole.tolist()}.")
    return whole


def trained_tables(config: Mapping[str, Any], floor: float | None = None) -> tuple[Tensor, Tensor]:
    """Betas and `alphas_cumprod` of a scheduler's settings, both (num_train_timesteps,).

    Args:
        floor: what stands in for no signal at all where the settings ask for that, so that sigmas stay finite.
    """
    betas = beta_table(
        config["beta_schedule"],
        config["beta_start"],
        config["beta_end"],
        config["num_train_timesteps"],
        config["trained_betas"],
    )
    rescaled = config.get("rescale_betas_zero_snr", False)
    if rescaled:
        betas = betas_without_signal_at_the_end(betas)
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)
    if rescaled and floor is not None:
        alphas_cumprod[-1] = floor
    return betas, alphas_cumprod


@dataclass(frozen=True, eq=False)
class SigmaTable:
    """Ratio of noise to signal at each timestep of the training, rising: (num_train_timesteps,), float32."""

    sigmas: NDArray[np.float32]

    @classmethod
    def of(cls, alphas_cumprod: Tensor) -> SigmaTable:
        """The table of a schedule."""
        return cls((((1 - alphas_cumprod) / alphas_cumprod) ** 0.5).float().numpy())

    def at(self, timesteps: Levels) -> Levels:
        """Sigmas at timesteps, those between two of the training included."""
        return np.interp(timesteps, np.arange(len(self.sigmas)), self.sigmas)

    def timesteps_of(self, sigmas: Levels) -> Levels:
        """The timesteps at which the training had these sigmas, interpolated between logarithms."""
        # In the types that the reference computes with: some schedulers cut these timesteps to whole numbers.
        table = np.log(self.sigmas)
        wanted = np.log(np.maximum(sigmas, 1e-10))
        # The last entry that is not above: steep betas without signal at the end make a table that rises and falls.
        below = np.cumsum(wanted[:, None] >= table, axis=1).argmax(axis=1).clip(max=len(table) - 2)
        low, high = table[below], table[below + 1]
        share = np.clip((low - wanted) / (low - high), 0, 1)
        timesteps: Levels = (1 - share) * below + share * (below + 1)
        return timesteps
