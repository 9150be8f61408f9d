"""Arithmetic of noise levels: shifts and spacings, in float64 on the CPU.

A flow's noise level `sigma` is the share of noise in `(1 - sigma) * clean + sigma * noise`. Every function takes and
returns levels in the order in which they are visited, from noise to clean.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Levels = NDArray[np.float64]
Numbers = Sequence[float] | NDArray[Any] | Tensor


def shift_levels(levels: Levels, shift: float) -> Levels:
    """Move levels in [0, 1] towards noise (`shift` > 1) or towards clean (< 1); both ends stay.

    Timestep shifting, arXiv:2403.03206. A shift that depends on the size of the video is the same map: with
    `exp(mu)` or `mu` as the shift for the "exponential" and "linear" kinds.
    """
    return shift * levels / (1 + (shift - 1) * levels)


def calculate_shift(
    image_seq_len: int, base_seq_len: int, max_seq_len: int, base_shift: float, max_shift: float
) -> float:
    """`mu` for a number of tokens: on the line through (base_seq_len, base_shift) and (max_seq_len, max_shift)."""
    slope = (max_shift - base_shift) / (max_seq_len - base_seq_len)
    return base_shift + slope * (image_seq_len - base_seq_len)


def dynamic_shift(mu: float, kind: str) -> float:
    """The shift that `mu` stands for: its exponential, or by the "linear" kind itself."""
    if kind == "exponential":
        return math.exp(mu)
    if mu <= 0:
        raise ValueError(f"mu must be above 0 with time_shift_type='linear', got {mu}.")
    return mu


def stretch_to_terminal(levels: Levels, terminal: float) -> Levels:
    """Scale the distances from pure noise so that the last level is `terminal`.

    A schedule that never leaves pure noise (one step) has nothing to stretch and is returned as it is.
    """
    clean_share = 1 - levels
    if clean_share[-1] == 0:
        return levels
    return 1 - clean_share / (clean_share[-1] / (1 - terminal))  # rounds as the reference, which cuts timesteps


def karras_levels(first: float, last: float, num_steps: int, rho: float = 7.0) -> Levels:
    """Levels whose `rho`-th roots are evenly spaced (arXiv:2206.00364, equation 5)."""
    first_root, last_root = first ** (1 / rho), last ** (1 / rho)
    levels: Levels = (first_root + np.linspace(0, 1, num_steps) * (last_root - first_root)) ** rho
    return levels


def exponential_levels(first: float, last: float, num_steps: int) -> Levels:
    """Levels whose logarithms are evenly spaced; `last` must be above zero."""
    if last <= 0:
        raise ValueError(f"exponential sigmas can't reach a noise level of {last:g}; end the schedule above zero.")
    return np.exp(np.linspace(math.log(first), math.log(last), num_steps))


def beta_levels(first: float, last: float, num_steps: int, concentration: float = 0.6) -> Levels:
    """Levels at even quantiles of Beta(concentration, concentration), dense at both ends (arXiv:2407.12173)."""
    return last + (first - last) * symmetric_beta_quantile(np.linspace(1, 0, num_steps), concentration)


def respacing_of(config: Mapping[str, Any]) -> str | None:
    """Which respacing of sigmas the settings of a scheduler ask for: "karras", "exponential", "beta" or none."""
    chosen = [name for name in ("karras", "exponential", "beta") if config.get(f"use_{name}_sigmas")]
    if len(chosen) > 1:
        names = " and ".join(f"use_{name}_sigmas" for name in chosen)
        raise ValueError(f"only one spacing of sigmas can be used, got {names}; switch off the others.")
    return chosen[0] if chosen else None


def respaced_levels(respacing: str | None, first: float, last: float, levels: Levels) -> Levels:
    """As many levels as there are, from `first` to `last`; without a respacing, the levels themselves."""
    if respacing is None:
        return levels
    spread = {"karras": karras_levels, "exponential": exponential_levels, "beta": beta_levels}
    return spread[respacing](first, last, len(levels))


def symmetric_beta_quantile(probability: Levels, concentration: float) -> Levels:
    """The inverse of the distribution function of Beta(a, a), a = `concentration` <= 1, to about 1e-15.

    Up to the median, the distribution function is u / (a * B(a, a)) * sum of a / (a + n) * (1 - a)_n / n! * x^n
    with u = x^a (DLMF 8.17.7), nearly linear in u, where Newton's method converges in a few steps; the upper
    half is the lower one mirrored.
    """
    scale = concentration * math.exp(2 * math.lgamma(concentration) - math.lgamma(2 * concentration))
    coefficients = [1.0]
    for n in range(1, 80):
        coefficients.append(coefficients[-1] * (n - concentration) / n)
    weighted = [concentration / (concentration + n) * coefficient for n, coefficient in enumerate(coefficients)]
    tail = np.minimum(probability, 1 - probability)
    u = tail * scale
    for _ in range(8):
        x = u ** (1 / concentration)
        excess = u * np.polyval(weighted[::-1], x) - tail * scale
        u = u - excess * (1 - x) ** (1 - concentration)
    x = u ** (1 / concentration)
    return np.where(probability <= 0.5, x, 1 - x)


def linear_quadratic_schedule(
    num_steps: int, threshold_noise: float = 0.025, linear_steps: int | None = None
) -> list[float]:
    """`num_steps` levels from 1 down: evenly spaced to `1 - threshold_noise`, then ever faster towards 0.

    The quadratic part continues the linear one with the same slope and would reach 0 after the last level
    (Movie Gen, arXiv:2410.13720, section 3.4.2).

    Args:
        linear_steps: how many steps the even part takes; half of them if None.
    """
    if num_steps < 2:
        return [1.0]
    if linear_steps is None:
        linear_steps = num_steps // 2
    slope = threshold_noise / linear_steps
    quadratic_steps = num_steps - linear_steps
    curvature = (1 - slope * num_steps) / quadratic_steps**2
    return [1 - slope * step - curvature * max(step - linear_steps, 0) ** 2 for step in range(num_steps)]


def exponential_integrals(exponent: float, count: int) -> list[float]:
    """Integrals of `exp((1 - s) * exponent) * s**k / k!` over s from 0 to 1, for as many k, from 0 on.

    They are the functions phi that exponential integrators weigh estimates by (arXiv:2206.00927, appendix B.1).
    """
    if abs(exponent) < 1:  # where the recurrence loses digits, the series has them
        return [sum(exponent**n / math.factorial(n + k) for n in range(20)) for k in range(1, count + 1)]
    integrals = [math.expm1(exponent) / exponent]
    for k in range(1, count):
        integrals.append((integrals[-1] - 1 / math.factorial(k)) / exponent)
    return integrals


def interpolation_weights(nodes: Sequence[float], integrals: Sequence[float]) -> list[float]:
    """The integral of each polynomial that is 1 at one of the nodes and 0 at the others.

    Args:
        integrals: of the powers, from that of 1 on; as many as there are nodes.
    """
    weights = []
    for node in nodes:
        coefficients = [1.0]  # of the powers
        for other in nodes:
            if other != node:
                pairs = zip([0.0, *coefficients], [*coefficients, 0.0], strict=True)
                coefficients = [(below - other * same) / (node - other) for below, same in pairs]
        weights.append(sum(map(operator.mul, coefficients, integrals)))
    return weights


def falling_levels(name: str, values: Numbers | None, highest: float) -> Levels | None:
    """The values in float64, checked to fall from at most `highest` to at least 0."""
    if values is None:
        return None
    levels: Levels = torch.as_tensor(values, dtype=torch.float64, device="cpu").numpy()
    if levels.ndim != 1 or not len(levels):
        raise ValueError(f"{name} must be a list of at least one number, got shape {levels.shape}.")
    if not ((levels >= 0) & (levels <= highest * (1 + 1e-6))).all():
        raise ValueError(f"{name} must lie between 0 (clean) and {highest:g} (noise), got {levels.tolist()}.")
    if (np.diff(levels) > 0).any():
        raise ValueError(f"{name} must fall from noise to clean, got {levels.tolist()}; sort them in descending order.")
    return levels


def number_of_steps(
    num_inference_steps: int | None, sigmas: NDArray[Any] | None, timesteps: NDArray[Any] | None
) -> int:
    """The number of steps on which all that was given agrees."""
    counts = {
        "num_inference_steps": num_inference_steps,
        "sigmas": None if sigmas is None else len(sigmas),
        "timesteps": None if timesteps is None else len(timesteps),
    }
    given = {name: count for name, count in counts.items() if count is not None}
    if not given:
        raise ValueError("the number of steps is missing; give num_inference_steps, sigmas or timesteps.")
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in given.items())
        raise ValueError(f"num_inference_steps and the lengths of sigmas and timesteps must be the same, got {listed}.")
    num_steps = next(iter(given.values()))
    if num_steps < 1:
        raise ValueError(f"num_inference_steps must be at least 1, got {num_steps}.")
    return num_steps
