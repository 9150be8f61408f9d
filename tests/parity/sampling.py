"""Whole sampling loops with a made-up network, by our solvers and the reference's."""

from __future__ import annotations

import copy
import inspect
import itertools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import filmstrip.schedulers
from tests.parity.references import relative_error

NUM_STEPS = (1, 2, 7, 20)
SPACINGS = [
    {"timestep_spacing": "linspace"},
    {"timestep_spacing": "leading", "steps_offset": 1},
    {"timestep_spacing": "trailing"},
]
BETAS: list[dict[str, Any]] = [
    {},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": torch.linspace(1e-4, 0.03, 500).tolist(), "num_train_timesteps": 500},
]
RESPACINGS = [{}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True}]
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@contextmanager
def quiet_reference() -> Iterator[None]:
    """Without the reference's announcements of deprecations."""
    level = logging.getLogger("diffusers").level
    diffusers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.getLogger("diffusers").setLevel(level)


def pair(name: str, **options: Any) -> tuple[Any, Any]:
    """Our scheduler and the reference's of the same settings."""
    if options.get("use_beta_sigmas"):
        pytest.importorskip("scipy")
    return getattr(filmstrip.schedulers, name)(**options), getattr(diffusers, name)(**options)


def network(latents: Tensor, timestep: float | Tensor) -> Tensor:
    """A prediction of slope below 1: a steeper one makes rounding errors grow from step to step where it is clipped."""
    return torch.sin(0.7 * latents) + float(timestep) / 1000


def loop(
    scheduler: Any,
    num_steps: int | None = None,
    *,
    begin: int = 0,
    shape: tuple[int, ...] = (2, 3, 2, 4, 4),
    dtype: torch.dtype = torch.float32,
    by_index: bool = False,
    generator: Any = None,
    channels: int = 1,
    **arguments: Any,
) -> Tensor:
    """Latents after each step, by the loop of the reference's pipelines.

    Args:
        begin: the first step that is taken.
        by_index: tell the scheduler by `set_begin_index`.
        channels: how many times as many channels as the latents the network predicts.
        arguments: of `set_timesteps`.
    """
    given = {"num_inference_steps": num_steps} if num_steps else {}
    scheduler.set_timesteps(**given, **arguments)
    generator = generator or torch.Generator().manual_seed(0)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * scheduler.init_noise_sigma
    latents = latents.to(dtype)
    if by_index:
        scheduler.set_begin_index(begin)
    more = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    trace = []
    for timestep in scheduler.timesteps[begin:]:
        prediction = network(scheduler.scale_model_input(latents, timestep), timestep).to(dtype)
        prediction = torch.cat([prediction] + [prediction.cos()] * (channels - 1), dim=1)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False, **more)[0]
        trace.append(latents)
    return torch.stack(trace)


def grid(*axes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Combinations of options, each axis a list of dictionaries."""
    return [{name: value for part in parts for name, value in part.items()} for parts in itertools.product(*axes)]


def cases(table: dict[str, list[dict[str, Any]]]) -> list[Any]:
    """Parameters (name, options) with readable names."""
    return [
        pytest.param(name, options, id=f"{name}-{_name_of(options)}")
        for name, rows in table.items()
        for options in rows
    ]


def expect_the_same_runs(
    name: str, options: dict[str, Any], num_steps: tuple[int, ...] = NUM_STEPS, *, rounding: float = 1e-6, **call: Any
) -> None:
    """Equal tables, and latents within 1e-5 at all steps.

    Args:
        rounding: of the reference's noise levels, relative.
    """
    with quiet_reference():
        schedulers = ours, theirs = pair(name, **options)
        assert len(ours) == len(theirs)
        for table in ("betas", "alphas_cumprod", "final_alpha_cumprod"):
            if hasattr(theirs, table):
                torch.testing.assert_close(getattr(ours, table), getattr(theirs, table), rtol=1e-6, atol=1e-9)
        for steps in num_steps:
            ours, theirs = copy.deepcopy(schedulers)  # the reference's settings may change with the steps
            mine, reference = (loop(scheduler, steps, **call) for scheduler in (ours, theirs))
            torch.testing.assert_close(ours.timesteps.double(), theirs.timesteps.double(), rtol=1e-6, atol=2e-4)
            if hasattr(theirs, "sigmas"):
                torch.testing.assert_close(ours.sigmas, theirs.sigmas, rtol=rounding, atol=1e-9)
            if relative_error(mine, reference) > 1e-5:  # float32 can't tell: then ours is no farther from the truth
                exact = loop(ours, steps, **call, dtype=torch.float64)
                assert relative_error(mine, exact) <= 1.2 * relative_error(reference, exact) <= 1e-3, steps


def _name_of(options: dict[str, Any]) -> str:
    shown = {name: "given" if name == "trained_betas" else value for name, value in options.items()}
    return "-".join(f"{name}={value}" for name, value in shown.items()) or "defaults"
