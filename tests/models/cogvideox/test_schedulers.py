"""The two solvers of CogVideoX: known answers, runs of their own, and the layer for Diffusers' loops."""

import pytest
import torch

from filmstrip.models.cogvideox import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

BOTH = [CogVideoXDDIMScheduler, CogVideoXDPMScheduler]
PUBLISHED = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def finish(run, latents, network=torch.sin, begin=0):
    for step in range(begin, len(run.timesteps)):
        latents = run.step(network(latents), step, latents)
    return latents


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("num_steps", [1, 2, 7, 50])
def test_a_network_that_knows_the_clean_latents_ends_there(kind, num_steps):
    clean = torch.randn(2, 3, dtype=torch.float64)
    run = kind(prediction_type="sample").start(num_steps, generator=seeded(0))
    torch.testing.assert_close(finish(run, torch.randn(2, 3).double(), lambda latents: clean), clean)


def test_ddim_keeps_the_noise_that_the_network_predicts():
    clean, noise = torch.randn(2, 2, 3, dtype=torch.float64)
    run = CogVideoXDDIMScheduler().start(5)
    latents = run.add_noise(clean, noise, 0)
    for step in range(4):
        latents = run.step(noise, step, latents)
        torch.testing.assert_close(latents, run.add_noise(clean, noise, step + 1))


def test_with_fresh_noise_latents_keep_their_variance():
    clean, noise = torch.zeros(1, 100_000), torch.randn(1, 100_000)
    run = CogVideoXDDIMScheduler().start(10, eta=1.0, generator=seeded(5))
    stepped = run.step(noise, 0, run.add_noise(clean, noise, 0))
    assert float(stepped.std()) == pytest.approx(run.transitions[1].level.sigma, rel=0.01)
    assert float((stepped * noise).mean()) < 0.9 * float(stepped.std())


@pytest.mark.parametrize("kind", BOTH)
def test_two_interleaved_runs_equal_two_in_turn(kind):
    scheduler, starts = kind(**PUBLISHED), torch.randn(2, 1, 4, 8)

    def runs():
        more = {"eta": 0.5} if kind is CogVideoXDDIMScheduler else {}
        return scheduler.start(6, generator=seeded(1), **more), scheduler.start(9, generator=seeded(2), **more)

    in_turn = [finish(run, latents) for run, latents in zip(runs(), starts, strict=True)]
    interleaved, pair = list(starts), runs()
    for step in range(9):
        for index, run in enumerate(pair):
            if step < len(run.timesteps):
                interleaved[index] = run.step(torch.sin(interleaved[index]), step, interleaved[index])
    assert all(torch.equal(one, other) for one, other in zip(in_turn, interleaved, strict=True))
    assert not torch.equal(*in_turn)


@pytest.mark.parametrize("kind", BOTH)
def test_the_layer_equals_the_run(kind):
    scheduler, start = kind(**PUBLISHED), torch.randn(1, 4, 8)
    expected = finish(scheduler.start(7, generator=seeded(3)), start)
    scheduler.set_timesteps(7, device="cpu")
    latents, generator, old, before = start * scheduler.init_noise_sigma, seeded(3), None, None
    for timestep in scheduler.timesteps:
        prediction = torch.sin(scheduler.scale_model_input(latents, timestep))
        if kind is CogVideoXDPMScheduler:
            latents, old = scheduler.step(prediction, old, timestep, before, latents, generator=generator)
        else:
            latents = scheduler.step(prediction, timestep, latents, generator=generator).prev_sample
        before = timestep
    torch.testing.assert_close(latents, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", BOTH)
def test_chosen_timesteps_step_to_the_next_one(kind):
    run = kind(prediction_type="sample").start(timesteps=[900, 500, 20])
    assert run.timesteps.tolist() == [900, 500, 20]
    assert run.transitions[0].next_level == run.transitions[1].level
    assert run.sigmas[-1] == 0 and len(run.sigmas) == 4


def test_a_run_has_as_many_steps_as_asked_for_where_rounding_could_add_one():
    run = CogVideoXDDIMScheduler(**PUBLISHED).start(61)
    assert len(run.timesteps) == 61 and run.timesteps.min() >= 0


@pytest.mark.parametrize("kind", BOTH)
def test_the_first_timestep_is_read_without_asking_the_device(kind):
    scheduler = kind()
    scheduler.set_timesteps(5, device="meta")  # holds no numbers, so that reading one would fail
    latents = torch.zeros(1, 2, 3, device="meta")
    timesteps = list(scheduler.timesteps)
    arguments = (None, timesteps[2], timesteps[1]) if kind is CogVideoXDPMScheduler else (timesteps[2],)
    assert scheduler.step(latents, *arguments, latents)[0].device.type == "meta"


@pytest.mark.parametrize("kind", BOTH)
def test_what_makes_no_sense_is_refused(kind):
    arguments = (None, 5, None) if kind is CogVideoXDPMScheduler else (5,)
    latents = torch.zeros(1, 2)
    scheduler = kind()
    with pytest.raises(ValueError, match="call set_timesteps first"):
        scheduler.step(latents, *arguments, latents)
    scheduler.set_timesteps(4)
    for timestep in (-1, 1000):
        arguments = (None, timestep, None) if kind is CogVideoXDPMScheduler else (timestep,)
        with pytest.raises(ValueError, match=r"timestep must lie between 0 .clean. and 999"):
            scheduler.step(latents, *arguments, latents)
    with pytest.raises(ValueError, match="num_inference_steps must be at most 1000"):
        scheduler.start(1001)
    with pytest.raises(ValueError, match="num_inference_steps must be at least 1"):
        scheduler.start(0)
    with pytest.raises(ValueError, match="timesteps must be whole numbers"):
        scheduler.start(timesteps=[900, 0.5])
    with pytest.raises(ValueError, match="timesteps must fall"):
        scheduler.start(timesteps=[100, 900])
    for options in ({"beta_schedule": "cubic"}, {"prediction_type": "guess"}, {"timestep_spacing": "odd"}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be one of"):
            kind(**options)
    with pytest.raises(ValueError, match="says nothing about the video where the schedule leaves no signal"):
        finish(kind(rescale_betas_zero_snr=True, timestep_spacing="trailing").start(4), latents)


def test_the_stochastic_solver_has_no_eta():
    scheduler = CogVideoXDPMScheduler()
    scheduler.set_timesteps(4)
    with pytest.raises(ValueError, match="eta belongs to DDIM"):
        scheduler.step(torch.zeros(2), None, 5, None, torch.zeros(2), eta=0.5)
