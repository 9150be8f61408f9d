"""Arithmetic of trained noise schedules: betas, the share of signal they leave, and which timesteps are visited.

A network is trained at whole-number timesteps. At each one, latents are `alpha * clean + sigma * noise`, and the
tables hold `alpha ** 2` as `alphas_cumprod`. They are built in the reference's precision, since rounding is part of
the numbers that a checkpoint is compared by; what is computed from them is in float64.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from filmstrip.schedulers.schedule import Numbers, check_choice, falling_levels

Timesteps = NDArray[np.int64]

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
SPACINGS = ("linspace", "leading", "trailing")


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
    if schedule == "linear":
        return torch.linspace(start, end, count)
    if schedule == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, count, dtype=dtype) ** 2
    check_choice("beta_schedule", schedule, BETA_SCHEDULES)
    return _betas_of_cosine(count)


def _betas_of_cosine(count: int, highest: float = 0.999) -> Tensor:
    """Betas under which the share of signal falls as a squared cosine (arXiv:2102.09672, equation 17)."""
    shares = [math.cos((step / count + 0.008) / 1.008 * math.pi / 2) ** 2 for step in range(count + 1)]
    betas = [min(1 - following / share, highest) for share, following in itertools.pairwise(shares)]
    return torch.tensor(betas)


def without_signal_at_the_end(alphas_cumprod: Tensor) -> Tensor:
    """Shift and scale the signal so that none is left at the last timestep (arXiv:2305.08891, algorithm 1)."""
    signal = alphas_cumprod.sqrt()
    first, last = signal[0].clone(), signal[-1].clone()
    return ((signal - last) * (first / (first - last))) ** 2


def spaced_timesteps(spacing: str, num_steps: int, num_train_timesteps: int, offset: int = 0) -> Timesteps:
    """Timesteps of a run from noise to clean, spread over those of the training (arXiv:2305.08891, table 2).

    Args:
        offset: added to the timesteps of the leading spacing.
    """
    if num_steps > num_train_timesteps:
        raise ValueError(
            f"num_inference_steps must be at most {num_train_timesteps}, the number of timesteps that the network was"
            f" trained with, got {num_steps}."
        )
    steps = np.arange(num_steps)
    if spacing == "linspace":
        ascending = np.linspace(0, num_train_timesteps - 1, num_steps).round()
        return ascending[::-1].astype(np.int64)
    if spacing == "leading":
        return steps[::-1] * (num_train_timesteps // num_steps) + offset
    check_choice("timestep_spacing", spacing, SPACINGS)
    # As steps of a fixed size from the end; how they round decides between two neighbouring timesteps.
    return np.round(num_train_timesteps - steps * (num_train_timesteps / num_steps)).astype(np.int64) - 1


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
