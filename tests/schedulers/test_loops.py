"""Loops written by hand over `scheduler.timesteps`: every step is made, whatever repeats, from wherever they begin."""

import inspect

import pytest
import torch

import filmstrip.schedulers
from filmstrip.schedulers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    UniPCMultistepScheduler,
)

FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 30.0}
KINDS = [
    getattr(filmstrip.schedulers, name)
    for name in filmstrip.schedulers.__all__
    if name.endswith("Scheduler") and name != "Scheduler"
]
REPEATING = {
    "DPM-Solver of a flow": DPMSolverMultistepScheduler(**FLOW),
    "DPM-Solver within a step of a flow": filmstrip.schedulers.DPMSolverSinglestepScheduler(**FLOW),
    "DEIS of a flow": filmstrip.schedulers.DEISMultistepScheduler(**FLOW),
    "UniPC of a flow": UniPCMultistepScheduler(**FLOW),
    "DPM-Solver, Karras": DPMSolverMultistepScheduler(use_karras_sigmas=True, num_train_timesteps=100, beta_end=0.2),
}


def seeded(scheduler):
    takes = inspect.signature(scheduler.step).parameters
    return {"generator": torch.Generator().manual_seed(3)} if "generator" in takes else {}


def looped(scheduler, timesteps, latents):
    more = seeded(scheduler)
    for timestep in timesteps:
        scaled = scheduler.scale_model_input(latents, timestep)
        latents = scheduler.step(torch.sin(scaled), timestep, latents, **more)[0]
    return latents


def run_of(scheduler, latents, num_steps, begin=0):
    takes = inspect.signature(scheduler.start).parameters
    more = {"generator": torch.Generator().manual_seed(3)} if "generator" in takes else {}
    run = scheduler.start(num_steps, **more)
    for step in range(begin, len(run.timesteps)):
        latents = run.step(torch.sin(run.scale_input(latents, step)), step, latents)
    return latents


@pytest.mark.parametrize("name", REPEATING)
@pytest.mark.parametrize("as_numbers", [False, True])
def test_timesteps_that_are_rounded_to_the_same_number_are_all_stepped_from(name, as_numbers):
    scheduler, latents = REPEATING[name], torch.randn(1, 4, 8)
    scheduler.set_timesteps(60)
    assert (scheduler.timesteps[1:] == scheduler.timesteps[:-1]).any()
    timesteps = scheduler.timesteps.tolist() if as_numbers else scheduler.timesteps
    torch.testing.assert_close(looped(scheduler, timesteps, latents), run_of(scheduler, latents, 60))


@pytest.mark.parametrize("name", REPEATING)
def test_a_loop_begins_at_the_very_timestep_that_is_taken_from_the_schedule(name):
    scheduler, latents = REPEATING[name], torch.randn(1, 4, 8)
    scheduler.set_timesteps(60)
    equal = int(torch.nonzero(scheduler.timesteps[1:] == scheduler.timesteps[:-1])[0])
    for begin in (equal, equal + 1):
        scheduler.set_timesteps(60)
        ended = looped(scheduler, scheduler.timesteps[begin:], latents)
        torch.testing.assert_close(ended, run_of(scheduler, latents, 60, begin))
        assert scheduler.step_index == 60
        scheduler.set_timesteps(60)
        scheduler.set_begin_index(begin)
        torch.testing.assert_close(looped(scheduler, scheduler.timesteps[begin:], latents), ended)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_steps", [4, 7])
def test_a_loop_from_the_start_makes_all_steps(kind, num_steps):
    scheduler, latents = kind(), torch.randn(1, 4, 8)
    scheduler.set_timesteps(num_steps)
    ended = looped(scheduler, scheduler.timesteps, latents)
    torch.testing.assert_close(ended, run_of(scheduler, latents, num_steps), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [HeunDiscreteScheduler, KDPM2DiscreteScheduler])
@pytest.mark.parametrize("step", [0, 1, 5])
@pytest.mark.parametrize("as_numbers", [False, True])
def test_a_loop_of_two_calls_a_step_begins_with_the_first_call(kind, step, as_numbers):
    scheduler, latents = kind(), torch.randn(1, 4, 8)
    scheduler.set_timesteps(8)
    timesteps = scheduler.timesteps[2 * step :]
    ended = looped(scheduler, timesteps.tolist() if as_numbers else timesteps, latents)
    torch.testing.assert_close(ended, run_of(scheduler, latents, 8, 2 * step))


def test_of_equal_timesteps_the_noise_is_that_of_the_step_that_is_made():
    scheduler = UniPCMultistepScheduler(**FLOW)
    scheduler.set_timesteps(60)
    equal = int(torch.nonzero(scheduler.timesteps[1:] == scheduler.timesteps[:-1])[0])
    clean, noise = torch.randn(2, 1, 4, 8)
    noisy = scheduler.add_noise(clean, noise, scheduler.timesteps[equal].repeat(1))
    scheduler.step(noise - clean, scheduler.timesteps[equal], noisy)
    assert scheduler.step_index == equal + 1
    sigma = float(scheduler.sigmas[equal])
    torch.testing.assert_close(noisy, (1 - sigma) * clean + sigma * noise)


def test_a_shifted_flow_of_euler_repeats_none():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=30.0)
    scheduler.set_timesteps(60)
    assert (scheduler.timesteps[1:] < scheduler.timesteps[:-1]).all()
