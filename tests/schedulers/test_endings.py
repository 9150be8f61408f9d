"""Every solver ends where it should: with a network that knows the video, at it or at the level that settings name."""

import inspect

import pytest
import torch

import filmstrip.models.cogvideox
from filmstrip.schedulers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from filmstrip.schedulers.exploding import ExplodingRun
from filmstrip.schedulers.flows import solvers_for
from filmstrip.schedulers.prediction import Level

FLOWS = solvers_for(flow=True)
KINDS = solvers_for(flow=False) | {
    name: getattr(filmstrip.models.cogvideox, name) for name in ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")
}
# They end at the training's lowest level, one to three hundredths of noise, and not at none; up to so much is seen.
ABOVE_ZERO = {"DEISMultistepScheduler": 0.06, "PNDMScheduler": 0.06, "SASolverScheduler": 0.06, "TCDScheduler": 0.15}
RESPACINGS = [{"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True}]


def told(scheduler, run, step, latents, clean):
    """What a network that knows the clean latents predicts."""
    if isinstance(run, ExplodingRun):
        level = Level(1.0, run.levels[step])
    elif hasattr(run, "transitions"):
        level = scheduler._level(int(run.timesteps[step]))
    else:
        level = run.noise_level(step)
    noise = (latents - level.alpha * clean) / level.sigma
    if scheduler.predicts == "v_prediction":
        return (level.alpha * noise - level.sigma * clean) / level.length
    return {"epsilon": noise, "sample": clean, "flow_prediction": noise - clean}[scheduler.predicts]


def ended(scheduler, clean, noise, *args, **given):
    if "generator" in inspect.signature(scheduler.start).parameters:
        given["generator"] = torch.Generator().manual_seed(0)
    run = scheduler.start(*args, **given)
    latents = run.add_noise(clean, noise, 0)
    for step in range(len(run.timesteps)):
        latents = run.step(told(scheduler, run, step, latents, clean), step, latents)
    return latents


def counts_of(kind):
    lowest = 4 if kind.__name__ == "PNDMScheduler" else 1
    return range(lowest, 51 if kind.__name__ in ("LCMScheduler", "TCDScheduler") else 61)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("name", KINDS)
def test_of_all_spacings_and_numbers_of_steps(name, spacing, prediction):
    if (name, prediction) == ("PNDMScheduler", "v_prediction"):
        pytest.skip("weighs predictions of several levels, which agree only where they are of the noise")
    kind = KINDS[name]
    takes = inspect.signature(kind).parameters
    options = {"prediction_type": prediction, "timestep_spacing": spacing, "clip_sample": False, "exact_schedule": True}
    scheduler = kind(**{option: value for option, value in options.items() if option in takes})
    clean, noise = torch.randn(2, 1, 2, 4, dtype=torch.float64)
    tolerance = ABOVE_ZERO.get(name, 3e-3)
    for num_steps in counts_of(kind):
        latents = ended(scheduler, clean, noise, num_steps)
        torch.testing.assert_close(latents, clean, rtol=0, atol=tolerance, msg=lambda said, n=num_steps: f"{n}: {said}")


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0, 12.0])
@pytest.mark.parametrize("name", FLOWS)
def test_of_all_flows(name, shift):
    scheduler = FLOWS[name].from_config(FlowMatchEulerDiscreteScheduler(shift=shift).config)
    clean, noise = torch.randn(2, 1, 2, 4, dtype=torch.float64)
    for num_steps in range(1, 61):
        for given in ({}, {"sigmas": torch.linspace(1, 1 / num_steps, num_steps)}):
            latents = ended(scheduler, clean, noise, num_steps, **given)
            torch.testing.assert_close(latents, clean, rtol=0, atol=1e-5)


@pytest.mark.parametrize("respacing", RESPACINGS)
@pytest.mark.parametrize("name", sorted(KINDS | FLOWS))
def test_of_all_respacings(name, respacing):
    kind = (KINDS | FLOWS)[name]
    if not respacing.keys() <= inspect.signature(kind).parameters.keys():
        pytest.skip("knows no respacing")
    of_flow = [FlowMatchEulerDiscreteScheduler(shift=3.0).config] if name in FLOWS else []
    of_diffusion = [EulerDiscreteScheduler().config] if name in KINDS else []
    clean, noise = torch.randn(2, 1, 2, 4, dtype=torch.float64)
    for config in (*of_flow, *of_diffusion):
        scheduler = kind.from_config(config, **respacing)
        highest = 0.06 if name in ABOVE_ZERO and not scheduler.is_flow else 3e-3
        for num_steps in (2, 5, 20, 60):  # one step alone has one level, and DEIS stays there
            latents = ended(scheduler, clean, noise, num_steps)
            torch.testing.assert_close(latents, clean, rtol=0, atol=highest)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("strength", [0.0, 0.1, 0.5, 0.8, 1.0])
def test_a_strength_is_the_share_of_steps_that_are_made(name, strength):
    kind = KINDS[name]
    scheduler = kind(**({"clip_sample": False} if "clip_sample" in inspect.signature(kind).parameters else {}))
    run = scheduler.start(20)
    assert len(run.begins) == 20
    begin = run.begin_of(strength)
    assert begin == ([*run.begins, len(run.timesteps)][20 - int(20 * strength)])
    assert (begin == len(run.timesteps)) == (strength == 0)
    if begin < len(run.timesteps):
        clean, noise = torch.randn(2, 1, 2, 4, dtype=torch.float64)
        latents = run.add_noise(clean, noise, begin)
        for step in range(begin, len(run.timesteps)):
            latents = run.step(told(scheduler, run, step, latents, clean), step, latents)
        torch.testing.assert_close(latents, clean, rtol=0, atol=ABOVE_ZERO.get(name, 0.06))


@pytest.mark.parametrize("name", sorted(KINDS | FLOWS))
def test_places_in_a_run_are_counted_in_steps(name):
    run = (KINDS | FLOWS)[name]().start(8)
    assert [run.call_before_end(steps) for steps in (7, 3, 0)] == [run.begins[step] for step in (0, 4, 7)]
    assert run.call_below(float(run.timesteps[run.begins[3]])) == run.begins[4]
    assert run.call_below(0) == len(run.timesteps)


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("num_steps", [4, 9])
def test_pndm_calls_more_often_than_it_steps(skips, num_steps):
    run = KINDS["PNDMScheduler"](skip_prk_steps=skips).start(num_steps)
    assert len(run.begins) == num_steps < len(run.timesteps)
    levels = [run.transitions[call].level for call in run.begins]
    assert levels == sorted(set(levels), key=lambda level: level.alpha)
