"""Schedules that end, and step, where their equations say: `exact_schedule`."""

import itertools
import json

import pytest
import torch

from filmstrip.models.cogvideox import CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from filmstrip.schedulers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)

BY_RATIO = {
    "DDIM": (DDIMScheduler, {"clip_sample": False}),
    "PNDM": (PNDMScheduler, {}),
    "PNDM at once": (PNDMScheduler, {"skip_prk_steps": True}),
    "CogVideoX DDIM": (CogVideoXDDIMScheduler, {}),
    "CogVideoX DPM": (CogVideoXDPMScheduler, {}),
}
SPACINGS = ("linspace", "leading", "trailing")


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [4, 7, 60, 61, 300, 700])
@pytest.mark.parametrize("name", BY_RATIO)
def test_each_step_ends_where_the_next_one_begins(name, num_steps, spacing):
    kind, options = BY_RATIO[name]
    run = kind(timestep_spacing=spacing, exact_schedule=True, **options).start(num_steps)
    steps = [one for one in run.transitions if one.next_level.sigma < one.level.sigma]
    for before, after in itertools.pairwise(steps):
        is_within = after.level == before.level  # the stages of a step begin where it does
        assert is_within or after.level == before.next_level
    assert steps[-1].next_level == run.transitions[-1].next_level
    assert run.transitions[-1].is_final


@pytest.mark.parametrize("name", ["DDIM", "CogVideoX DDIM", "CogVideoX DPM"])
def test_by_default_the_numbers_are_those_of_diffusers(name):
    kind, options = BY_RATIO[name]
    sigmas = {
        exact: kind(timestep_spacing="trailing", **options, **({"exact_schedule": True} if exact else {})).start(60)
        for exact in (False, True)
    }
    assert sigmas[True].sigmas[-1] == 0 < sigmas[False].sigmas[-1]
    assert torch.equal(sigmas[True].timesteps, sigmas[False].timesteps)
    run = sigmas[False]
    assert all(
        one.next_level == kind(**options)._level(int(t) - 16, past_end=True)
        for one, t in zip(run.transitions, run.timesteps, strict=True)
    )


@pytest.mark.parametrize("num_steps", [300, 700])
def test_ddim_on_a_gaussian_errs_less(num_steps):
    def width(level):
        return (0.25 * level.alpha**2 + level.sigma**2) ** 0.5

    def error(**more):
        run = DDIMScheduler(timestep_spacing="trailing", clip_sample=False, **more).start(num_steps)
        latents = torch.full((1, 1), width(run.transitions[0].level), dtype=torch.float64)
        for step, (level, _, _) in enumerate(run.transitions):
            latents = run.step(latents * level.sigma / width(level) ** 2, step, latents)
        return abs(float(latents) / 0.5 - 1)

    assert error(exact_schedule=True) < 0.02 and error() > 0.06


@pytest.mark.parametrize("name", ["DDIM", "CogVideoX DDIM", "PNDM", "PNDM at once"])
def test_a_loop_equals_the_run(name):
    kind, options = BY_RATIO[name]
    scheduler = kind(timestep_spacing="trailing", exact_schedule=True, **options)
    latents = expected = torch.randn(1, 4, 8)
    run = scheduler.start(60)
    scheduler.set_timesteps(60)
    for step, timestep in enumerate(scheduler.timesteps):
        expected = run.step(torch.sin(expected), step, expected)
        latents = scheduler.step(torch.sin(latents), timestep, latents).prev_sample
    torch.testing.assert_close(latents, expected)


def test_a_step_of_the_solver_of_cogvideox_equals_the_run():
    scheduler, latents = CogVideoXDPMScheduler(timestep_spacing="trailing", exact_schedule=True), torch.randn(1, 4, 8)
    scheduler.set_timesteps(60)
    first, second = (torch.Generator().manual_seed(0) for _ in range(2))
    expected = scheduler.start(60, generator=first).step(torch.sin(latents), 0, latents)
    stepped = scheduler.step(torch.sin(latents), None, scheduler.timesteps[0], None, latents, generator=second)[0]
    torch.testing.assert_close(stepped, expected)


def test_an_inversion_goes_back_by_the_same_steps():
    options = {"timestep_spacing": "trailing", "exact_schedule": True}
    forth, back = DDIMScheduler(**options).start(60), DDIMInverseScheduler(**options).start(60)
    steps = [(one.next_level, one.level) for one in reversed(back.transitions)]
    assert steps == [(one.level, one.next_level) for one in forth.transitions]


@pytest.mark.parametrize("shift", [3.0, 0.5])
def test_a_flow_is_shifted_once(shift):
    twice, once = (FlowMatchEulerDiscreteScheduler(shift=shift, **one) for one in ({}, {"exact_schedule": True}))
    lowest = shift * 0.001 / (1 + (shift - 1) * 0.001)
    assert float(once.start(20).sigmas[-2]) == pytest.approx(lowest)
    assert float(twice.start(20).sigmas[-2]) == pytest.approx(shift * lowest / (1 + (shift - 1) * lowest))
    given = [1.0, 0.5, 0.1]
    assert torch.equal(once.start(sigmas=given).sigmas, twice.start(sigmas=given).sigmas)
    once.set_shift(6.0)
    assert float(once.start(20).sigmas[-2]) == pytest.approx(6 * 0.001 / (1 + 5 * 0.001))


@pytest.mark.parametrize("kind", [DDIMScheduler, FlowMatchEulerDiscreteScheduler])
def test_it_is_written_down_only_where_it_is_given(kind, tmp_path):
    assert "exact_schedule" not in kind().config
    kind().save_pretrained(tmp_path)
    assert "exact_schedule" not in json.loads((tmp_path / "scheduler_config.json").read_text())
    kind(exact_schedule=True).save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert loaded.config.exact_schedule is True
    swapped = EulerDiscreteScheduler.from_config(loaded.config)
    assert "exact_schedule" not in swapped.config
    assert kind.from_config(swapped.config).config.exact_schedule is True
    assert kind.from_config(kind().config, exact_schedule=True).config.exact_schedule is True
    with pytest.raises(TypeError):
        kind(*[1] * 30, True)
