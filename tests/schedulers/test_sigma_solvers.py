"""Solvers in sigmas, and DDIM: known answers, runs of their own, the layer for Diffusers' loops, changing classes."""

import inspect
import math

import pytest
import torch

from filmstrip.schedulers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LMSDiscreteScheduler,
)

PLAIN = [EulerDiscreteScheduler, HeunDiscreteScheduler, LMSDiscreteScheduler, KDPM2DiscreteScheduler]
ANCESTRAL = [EulerAncestralDiscreteScheduler, KDPM2AncestralDiscreteScheduler]
SIGMAS = PLAIN + ANCESTRAL
ALL = [*SIGMAS, DDIMScheduler]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def finish(run, latents, network=torch.sin, begin=0, end=None):
    for step in range(begin, len(run.timesteps) if end is None else end):
        latents = run.step(network(run.scale_input(latents, step)), step, latents)
    return latents


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("num_steps", [1, 2, 7, 30])
def test_a_network_that_knows_the_clean_latents_ends_there(kind, num_steps):
    clean = torch.rand(2, 3, dtype=torch.float64)
    run = kind(prediction_type="sample", timestep_spacing="leading").start(num_steps, generator=seeded(0))
    start = run.init_noise_sigma * torch.randn(2, 3).double()
    torch.testing.assert_close(finish(run, start, lambda latents: clean), clean, rtol=0, atol=1e-9)


def error_on_a_gaussian(kind, num_steps, spread=0.8):
    """For clean latents of this standard deviation, the best estimate and the path of the latents are known."""
    run = kind(prediction_type="sample", use_karras_sigmas=True).start(num_steps)
    first, last = run.levels[0], float(run.sigmas[run.sigmas > 0].min())
    latents = torch.tensor([math.hypot(spread, first)], dtype=torch.float64)
    for step in range(len(run.timesteps) - 1):  # up to the last sigma above zero
        latents = run.step(latents * spread**2 / (spread**2 + run.levels[step] ** 2), step, latents)
    return abs(float(latents) - math.hypot(spread, last))


@pytest.mark.parametrize(
    ("kind", "order"), [(EulerDiscreteScheduler, 1), (HeunDiscreteScheduler, 2), (KDPM2DiscreteScheduler, 2)]
)
def test_twice_the_steps_divide_the_error_by_two_to_the_order(kind, order):
    ratio = error_on_a_gaussian(kind, 100) / error_on_a_gaussian(kind, 200)
    assert 0.8 * 2**order < ratio < 1.25 * 2**order


def test_linear_multistep_is_more_accurate_than_heun_for_half_the_calls():
    assert error_on_a_gaussian(LMSDiscreteScheduler, 100) < 0.5 * error_on_a_gaussian(HeunDiscreteScheduler, 100)


@pytest.mark.parametrize("kind", ANCESTRAL)
def test_fresh_noise_fills_up_to_the_next_sigma(kind):
    run = kind(timestep_spacing="leading").start(10, generator=seeded(5))
    calls = kind.order
    latents = run.levels[0] * torch.randn(1, 200_000)
    noise = latents.clone()
    for step in range(calls):
        latents = run.step(latents / run.levels[step], step, latents)  # all of it is noise
    assert float(latents.std()) == pytest.approx(run.levels[calls], rel=0.01)
    assert float((latents * noise).mean() / latents.std() / noise.std()) < 0.99


def test_churned_latents_step_from_a_higher_sigma():
    run = EulerDiscreteScheduler().start(10, generator=seeded(5))
    latents = run.levels[3] * torch.randn(1, 200_000)
    torch.testing.assert_close(run.step(latents / run.levels[3], 3, latents), latents * run.levels[4] / run.levels[3])
    unmoved = run.step(torch.zeros_like(latents), 3, latents, s_churn=2.0)  # no noise is predicted
    assert float(unmoved.std()) == pytest.approx(run.levels[3] * (1 + 2 / 10), rel=0.01)
    assert torch.equal(run.step(torch.zeros_like(latents), 3, latents, s_churn=2.0, s_tmax=0.1), latents)


def test_inverting_and_sampling_again_returns_to_the_start():
    network = torch.nn.Linear(6, 6, dtype=torch.float64).requires_grad_(False)
    options = {"clip_sample": False, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    clean = torch.randn(2, 6, dtype=torch.float64)
    noise = finish(DDIMInverseScheduler(**options).start(500), clean, lambda latents: 0.3 * network(latents))
    again = finish(DDIMScheduler(**options).start(500), noise, lambda latents: 0.3 * network(latents))
    assert not torch.allclose(noise, clean, atol=0.5)
    torch.testing.assert_close(again, clean, rtol=0, atol=0.02)


@pytest.mark.parametrize("kind", ALL)
def test_two_interleaved_runs_equal_two_in_turn(kind):
    scheduler, starts = kind(timestep_spacing="trailing"), torch.randn(2, 1, 4, 8)

    def runs():
        return scheduler.start(6, generator=seeded(1)), scheduler.start(9, generator=seeded(2))

    in_turn = [finish(run, latents) for run, latents in zip(runs(), starts, strict=True)]
    interleaved, pair = list(starts), runs()
    for step in range(max(len(run.timesteps) for run in pair)):
        for index, run in enumerate(pair):
            if step < len(run.timesteps):
                prediction = torch.sin(run.scale_input(interleaved[index], step))
                interleaved[index] = run.step(prediction, step, interleaved[index])
    assert all(torch.equal(one, other) for one, other in zip(in_turn, interleaved, strict=True))
    assert not torch.equal(*in_turn)


@pytest.mark.parametrize("kind", ALL)
def test_the_layer_equals_the_run_and_a_run_leaves_the_layer_alone(kind):
    scheduler, start = kind(timestep_spacing="leading"), torch.randn(1, 4, 8)
    scheduler.set_timesteps(7, device="cpu")
    expected = finish(scheduler.start(7, generator=seeded(3)), start)
    more = {"generator": seeded(3)} if "generator" in inspect.signature(scheduler.step).parameters else {}
    latents = start
    for index, timestep in enumerate(scheduler.timesteps):
        assert kind is DDIMScheduler or scheduler.step_index == (index or None)
        prediction = torch.sin(scheduler.scale_model_input(latents, timestep))
        output = scheduler.step(prediction, timestep, latents, **more)
        latents = output.prev_sample
        assert latents is output[0] and output.pred_original_sample.shape == start.shape
    assert torch.equal(latents, expected)


@pytest.mark.parametrize("kind", SIGMAS)
def test_the_first_timestep_is_read_without_asking_the_device(kind):
    scheduler = kind()
    scheduler.set_timesteps(5, device="meta")  # holds no numbers, so that reading one would fail
    latents = torch.zeros(1, 2, 3, device="meta")
    timestep = list(scheduler.timesteps)[2]
    assert scheduler.scale_model_input(latents, timestep).device.type == "meta"
    assert scheduler.step(latents, timestep, latents)[0].device.type == "meta" and scheduler.step_index == 3


@pytest.mark.parametrize("kind", ALL)
def test_a_step_changes_no_input(kind):
    run = kind().start(4, generator=seeded(0))
    for step in range(2):  # the second one looks back
        latents, prediction = torch.randn(2, 1, 4, 8)
        copies = latents.clone(), prediction.clone()
        run.step(prediction, step, latents)
        assert torch.equal(latents, copies[0]) and torch.equal(prediction, copies[1])


@pytest.mark.parametrize("kind", [HeunDiscreteScheduler, KDPM2DiscreteScheduler])
def test_the_last_step_leaves_nothing_begun(kind):
    run = kind().start(3)
    finish(run, torch.randn(1, 4), end=4)
    assert not run.begun
    finish(run, torch.randn(1, 4), begin=4)
    assert not run.begun


def test_dynamic_thresholding_bounds_each_video_by_its_own_quantile():
    options = {"thresholding": True, "sample_max_value": 5.0, "dynamic_thresholding_ratio": 0.5}
    scheduler = DDIMScheduler(prediction_type="sample", **options)
    scheduler.set_timesteps(10)
    prediction = torch.tensor([[-8.0, 2.0, 3.0], [0.1, -0.2, 0.9]])
    denoised = scheduler.step(prediction, 500, torch.zeros(2, 3)).pred_original_sample
    torch.testing.assert_close(denoised, torch.tensor([[-1.0, 2 / 3, 1.0], [0.1, -0.2, 0.9]]))


def test_changing_the_class_and_changing_it_back_loses_nothing():
    first = EulerDiscreteScheduler(use_karras_sigmas=True, timestep_spacing="trailing", sigma_min=0.05, steps_offset=1)
    between = DDIMScheduler.from_config(first.config, clip_sample=False)
    assert between.config.timestep_spacing == "trailing" and between.config.clip_sample is False
    assert "use_karras_sigmas" not in between.config
    again = EulerDiscreteScheduler.from_config(between.config)
    assert again.config == first.config
    assert torch.equal(again.start(9).sigmas, first.start(9).sigmas)
    assert DDIMScheduler.from_config(again.config).config.clip_sample is False


def test_settings_that_contradict_or_are_unknown_are_refused():
    with pytest.raises(ValueError, match="got use_karras_sigmas and use_beta_sigmas; switch off the others"):
        HeunDiscreteScheduler(use_karras_sigmas=True, use_beta_sigmas=True)
    for kind in SIGMAS:
        for options in ({"beta_schedule": "cubic"}, {"prediction_type": "guess"}, {"timestep_spacing": "odd"}):
            with pytest.raises(ValueError, match=f"{next(iter(options))} must be one of"):
                kind(**options)
    for options in ({"interpolation_type": "cubic"}, {"timestep_type": "odd"}, {"final_sigmas_type": "one"}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be one of"):
            EulerDiscreteScheduler(**options)


@pytest.mark.parametrize(
    ("kind", "options", "arguments", "message"),
    [
        (EulerDiscreteScheduler, {}, {}, "the number of steps is missing"),
        (EulerDiscreteScheduler, {}, {"num_inference_steps": 0}, "must be at least 1"),
        (EulerDiscreteScheduler, {}, {"sigmas": [2.0, 1.0], "timesteps": [900]}, "given without timesteps"),
        (EulerDiscreteScheduler, {}, {"sigmas": [2.0, 1.0], "num_inference_steps": 2}, "the last level included"),
        (EulerDiscreteScheduler, {}, {"timesteps": [100, 900]}, "timesteps must fall"),
        (EulerDiscreteScheduler, {"use_beta_sigmas": True}, {"timesteps": [900]}, "use_beta_sigmas, which chooses"),
        (HeunDiscreteScheduler, {"timestep_spacing": "trailing"}, {"num_inference_steps": 1001}, "at most 1000"),
        (DDIMScheduler, {}, {"num_inference_steps": 4, "eta": 1.5}, "eta must lie between 0"),
    ],
)
def test_schedules_that_cannot_be_made_are_refused(kind, options, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**options).start(**arguments)


def test_steps_that_make_no_sense_are_refused():
    latents = torch.zeros(1, 2)
    for kind in (EulerDiscreteScheduler, EulerAncestralDiscreteScheduler):
        scheduler = kind()
        scheduler.set_timesteps(2)
        with pytest.raises(ValueError, match=r"pass scheduler.timesteps\[index\]"):
            scheduler.step(latents, 999, latents)
    scheduler = HeunDiscreteScheduler()
    scheduler.set_timesteps(2)
    with pytest.raises(IndexError, match="timestep 500 is not in the schedule"):
        scheduler.step(latents, 500, latents)
    with pytest.raises(ValueError, match="num_train_timesteps is a setting of the scheduler"):
        scheduler.set_timesteps(2, num_train_timesteps=500)
    for timestep in scheduler.timesteps:
        scheduler.step(latents, timestep, latents)
    with pytest.raises(ValueError, match="all 3 steps of this schedule are done"):
        scheduler.step(latents, scheduler.timesteps[1], latents)
    ddim = DDIMScheduler()
    ddim.set_timesteps(4)
    with pytest.raises(ValueError, match="comes from generator or is variance_noise"):
        ddim.step(latents, 5, latents, eta=1.0, generator=seeded(0), variance_noise=latents)
    with pytest.raises(ValueError, match="says nothing about the noise where there is none"):
        finish(DDIMInverseScheduler(prediction_type="sample").start(4), latents)


def test_an_ancestral_step_is_finite_where_the_sigmas_rise():
    # Without signal at the end, steep betas put the noise of the timestep before it above that of the last one.
    scheduler = EulerAncestralDiscreteScheduler(beta_end=0.05, rescale_betas_zero_snr=True)
    run = scheduler.start(25)
    assert run.sigmas[1] > run.sigmas[0]
    assert run.step(torch.ones(1, 4), 0, torch.ones(1, 4), generator=torch.Generator().manual_seed(0)).isfinite().all()
