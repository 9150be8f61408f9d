"""The two schedulers of CogVideoX against the reference implementation."""

import itertools

import diffusers
import pytest
import torch

import filmstrip
from tests.parity.references import relative_error

NAMES = ["CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"]
PUBLISHED = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "snr_shift_scale": 1.0,
    "clip_sample": False,
}
OPTIONS = [
    {"timestep_spacing": spacing, "prediction_type": kind, "snr_shift_scale": scale, **betas, **more}
    for (spacing, kind), (scale, betas), more in zip(
        itertools.product(("linspace", "leading", "trailing"), ("epsilon", "sample", "v_prediction")),
        itertools.cycle(
            [
                (3.0, {}),
                (1.0, {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
                (2.5, {"beta_schedule": "squaredcos_cap_v2"}),
                (1.0, {"trained_betas": torch.linspace(1e-4, 0.03, 500).tolist(), "num_train_timesteps": 500}),
            ]
        ),
        itertools.cycle([{}, {"set_alpha_to_one": False}, {"steps_offset": 1}]),
        strict=False,
    )
] + [PUBLISHED, PUBLISHED | {"snr_shift_scale": 3.0}, PUBLISHED | {"timestep_spacing": "linspace"}]


def pair(name, **options):
    return getattr(filmstrip, name)(**options), getattr(diffusers, name)(**options)


def network(latents, timestep):
    return torch.sin(3 * latents) + float(timestep) / 1000


def loop(scheduler, num_steps, begin=0, shape=(2, 4, 3, 8, 8), predict=network):
    """Latents after each step, by the loop of the reference's pipelines."""
    scheduler.set_timesteps(num_steps)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(shape, generator=generator) * scheduler.init_noise_sigma
    trace, old, before = [], None, None
    for timestep in scheduler.timesteps[begin:]:
        prediction = predict(scheduler.scale_model_input(latents, timestep), timestep)
        if "DPM" in type(scheduler).__name__:
            latents, old = scheduler.step(prediction, old, timestep, before, latents, generator=generator)
        else:
            latents, old = scheduler.step(prediction, timestep, latents, return_dict=False)
        trace += [latents, old]
        before = timestep
    return torch.stack(trace)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_tables_and_whole_runs_agree(name, options):
    ours, theirs = pair(name, **options)
    assert len(ours) == len(theirs) and torch.equal(ours.timesteps, theirs.timesteps)
    for table in ("betas", "alphas_cumprod", "final_alpha_cumprod"):
        torch.testing.assert_close(getattr(ours, table), getattr(theirs, table), rtol=1e-6, atol=1e-9)
    for num_steps in (1, 2, 7, 30):
        traces = [loop(scheduler, num_steps) for scheduler in (ours, theirs)]
        assert torch.equal(ours.timesteps, theirs.timesteps) and ours.timesteps.dtype == torch.int64
        assert relative_error(*traces) <= 2e-5, "the rounding of 30 steps, which processors do differently"


@pytest.mark.parametrize("name", NAMES)
def test_starting_in_the_middle_agrees(name):
    traces = [loop(scheduler, 10, begin=4) for scheduler in pair(name, **PUBLISHED)]
    assert relative_error(*traces) <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_steps_from_any_timestep_in_any_order_agree(name):
    results = []
    for scheduler in pair(name):
        scheduler.set_timesteps(10)
        latents, prediction = torch.linspace(-1, 1, 20), torch.linspace(1, 2, 20)
        more = [None] if name == "CogVideoXDDIMScheduler" else []
        for timestep in (1, 777, torch.tensor(33), 950):
            if more:
                results.append(scheduler.step(prediction, timestep, latents).prev_sample)
                continue
            for old, before in ((None, None), (latents, 999)):
                generator = torch.Generator().manual_seed(1)
                results.append(scheduler.step(prediction, old, timestep, before, latents, generator=generator)[0])
    half = len(results) // 2
    assert relative_error(torch.stack(results[:half]), torch.stack(results[half:])) <= 1e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, PUBLISHED], ids=str)
def test_noise_and_velocities_agree(name, options):
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 4, 4, 2, 5, generator=generator)
    timesteps = torch.tensor([999, 500, 1, 0])
    for method in ("add_noise", "get_velocity"):
        ours, theirs = (getattr(scheduler, method)(clean, noise, timesteps) for scheduler in pair(name, **options))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_in_bfloat16_is_no_worse_than_the_reference(name):
    generator = torch.Generator().manual_seed(0)
    latents, prediction, old = torch.randn(3, 1, 4, 5, 16, 16, generator=generator).bfloat16()

    def step(scheduler, *tensors):
        scheduler.set_timesteps(50)
        prediction, old, latents = tensors
        if "DDIM" in name:
            return scheduler.step(prediction, 699, latents)[0]
        # The noise of the generator is the same for both types: bfloat16 draws are its own stream.
        generator = torch.Generator().manual_seed(1)
        given = {}
        if latents.dtype == torch.float64:
            torch.randn(latents.shape, generator=generator, dtype=torch.bfloat16)
            given["variance_noise"] = torch.randn(latents.shape, generator=generator, dtype=torch.bfloat16)
        return scheduler.step(prediction, old, 699, 719, latents, generator=generator, **given)[0]

    ours, theirs = pair(name, **PUBLISHED)
    exact = step(ours, prediction.double(), old.double(), latents.double())
    results = [step(scheduler, prediction, old, latents) for scheduler in (ours, theirs)]
    assert results[0].dtype == results[1].dtype == torch.bfloat16
    mine, reference = (float((result.double() - exact).norm()) for result in results)
    assert mine <= reference
    assert mine <= 2**-8 * float(exact.norm())
