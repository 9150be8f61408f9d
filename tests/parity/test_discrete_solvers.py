"""DDPM, PNDM and LCM against the reference implementation, over grids of their options."""

import pytest
import torch

from tests.parity.references import relative_error
from tests.parity.sampling import BETAS, SPACINGS, cases, expect_the_same_runs, grid, loop, pair

KINDS = [{"prediction_type": kind} for kind in ("epsilon", "sample", "v_prediction")]
CLIPS = [
    {"clip_sample": False},
    {"clip_sample": True, "clip_sample_range": 0.7},
    {"clip_sample": False, "thresholding": True, "sample_max_value": 1.5},
]
NO_SIGNAL = {"rescale_betas_zero_snr": True, "clip_sample": False, "prediction_type": "v_prediction"}

DDPM = (
    grid(SPACINGS, KINDS, CLIPS)
    + grid(BETAS, [{"variance_type": kind} for kind in ("fixed_small_log", "fixed_large")])
    + [{"beta_schedule": "sigmoid"}, {"beta_schedule": "laplace"}]
    + grid(SPACINGS, [NO_SIGNAL])
)
LCM = (
    grid(KINDS, CLIPS)
    + BETAS
    + [NO_SIGNAL, {"original_inference_steps": 100}, {"timestep_scaling": 3.0}, {"set_alpha_to_one": False}]
)
PNDM = grid(SPACINGS, KINDS[::2], [{}, {"set_alpha_to_one": True}, {"skip_prk_steps": True}]) + grid(
    BETAS, [{}, {"skip_prk_steps": True}]
)


@pytest.mark.parametrize(("name", "options"), cases({"DDPMScheduler": DDPM, "LCMScheduler": LCM}))
def test_tables_and_whole_runs_agree(name, options):
    expect_the_same_runs(name, options)


@pytest.mark.parametrize(("name", "options"), cases({"PNDMScheduler": PNDM}))
def test_pseudo_numerical_runs_agree(name, options):
    expect_the_same_runs(name, options, num_steps=(1, 2, 3, 7, 20) if options.get("skip_prk_steps") else (4, 5, 20))


def test_a_learned_range_of_variances_agrees():
    expect_the_same_runs("DDPMScheduler", {"variance_type": "learned_range"}, channels=2)


@pytest.mark.parametrize("name", ["DDPMScheduler", "LCMScheduler"])
def test_starting_in_the_middle_agrees(name):
    expect_the_same_runs(name, {}, num_steps=(9, 12), begin=4)


@pytest.mark.parametrize("name", ["DDPMScheduler", "LCMScheduler"])
def test_a_generator_for_each_video_draws_the_same(name):
    traces = []
    for scheduler in pair(name):
        traces.append(loop(scheduler, 5, generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)]))
    assert relative_error(*traces) <= 1e-5
    assert not torch.equal(traces[0][-1, 0], traces[0][-1, 1])


@pytest.mark.parametrize("name", ["DDPMScheduler", "LCMScheduler", "PNDMScheduler"])
def test_noise_is_added_alike(name):
    clean, noise = torch.randn(2, 3, 4, 2, 5, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([999, 500, 0])
    results = [scheduler.add_noise(clean, noise, timesteps) for scheduler in pair(name)]
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


def test_chosen_timesteps_agree():
    expect_the_same_runs("DDPMScheduler", {}, num_steps=(None,), timesteps=[999, 700, 650, 300, 120, 0])
    expect_the_same_runs("LCMScheduler", {}, num_steps=(None,), timesteps=[999, 699, 259, 19])
    for more in ({"original_inference_steps": 20}, {"strength": 0.6}):
        expect_the_same_runs("LCMScheduler", {}, num_steps=(4, 5), **more)


def test_ancestral_steps_before_any_timesteps_are_set_go_through_the_training():
    latents, prediction = torch.randn(2, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    for timestep in (999, 500, 0):
        results = []
        for scheduler in pair("DDPMScheduler"):
            generator = torch.Generator().manual_seed(1)
            results.append(scheduler.step(prediction, timestep, latents, generator=generator).prev_sample)
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("skips", [True, False])
def test_the_two_phases_can_be_called_one_after_the_other(skips):
    traces = []
    for scheduler in pair("PNDMScheduler", skip_prk_steps=skips):
        scheduler.set_timesteps(7)
        latents, trace = torch.linspace(-1, 1, 24).view(1, 4, 6), []
        for phase, timesteps in (("prk", scheduler.prk_timesteps), ("plms", scheduler.plms_timesteps)):
            for timestep in timesteps:
                latents = getattr(scheduler, f"step_{phase}")(latents.cos(), int(timestep), latents).prev_sample
                trace.append(latents)
        traces.append(torch.stack(trace))
    assert relative_error(*traces) <= 1e-5


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler"])
def test_variances_agree(name):
    for timestep, before in ((999, 998), (500, 499), (2, 1), (0, -1)):
        given = (timestep, before) if name == "DDIMScheduler" else (timestep,)
        ours, theirs = (scheduler._get_variance(*given) for scheduler in pair(name))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-9)  # the reference's float32 cancels
