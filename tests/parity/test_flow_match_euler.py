"""FlowMatchEulerDiscreteScheduler against the reference implementation."""

import itertools
import logging

import diffusers
import numpy as np
import pytest
import torch

from filmstrip.schedulers import FlowMatchEulerDiscreteScheduler

SPACINGS = [{}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True}]
SHIFTS = [
    ({}, None),
    ({"shift": 3.0}, None),
    ({"shift": 0.5}, None),
    ({"use_dynamic_shifting": True}, 0.9),
    ({"use_dynamic_shifting": True, "shift": 3.0}, -0.3),
    ({"use_dynamic_shifting": True, "time_shift_type": "linear"}, 2.05),
]
ENDS = [
    {},
    {"shift_terminal": 0.1},
    {"invert_sigmas": True},
    {"shift_terminal": 0.02, "invert_sigmas": True, "num_train_timesteps": 500},
]
CUSTOM = [0.996, 0.91, 0.9, 0.6, 0.333, 0.05]
OPTIONS = [(shift | spacing | end, mu) for (shift, mu), spacing, end in itertools.product(SHIFTS, SPACINGS, ENDS)]


@pytest.fixture(autouse=True)
def quiet_reference():
    level = logging.getLogger("diffusers").level
    diffusers.logging.set_verbosity_error()
    yield
    logging.getLogger("diffusers").setLevel(level)


def pair(**options):
    if options.get("use_beta_sigmas"):
        pytest.importorskip("scipy")
    return FlowMatchEulerDiscreteScheduler(**options), diffusers.FlowMatchEulerDiscreteScheduler(**options)


def assert_same_schedule(ours, theirs, share_of_highest=0.0):
    for mine, reference, highest in ((ours.timesteps, theirs.timesteps, len(ours)), (ours.sigmas, theirs.sigmas, 1)):
        assert mine.dtype == reference.dtype
        torch.testing.assert_close(mine, reference, rtol=1e-6, atol=share_of_highest * highest)


def name_of(case):
    return "-".join(f"{name}={value}" for name, value in case[0].items()) or "defaults"


@pytest.mark.parametrize("case", OPTIONS, ids=name_of)
def test_schedules_agree(case):
    options, mu = case
    ours, theirs = pair(**options)
    assert_same_schedule(ours, theirs)
    assert (ours.sigma_min, ours.sigma_max) == pytest.approx((theirs.sigma_min, theirs.sigma_max), rel=1e-7)
    top = options.get("num_train_timesteps", 1000)
    for steps in (2, 3, 10, 50):
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(steps, mu=mu)
        assert_same_schedule(ours, theirs)
    for given in (
        {"sigmas": CUSTOM},
        {"sigmas": np.array(CUSTOM, dtype=np.float32)},
        {"timesteps": [level * top for level in CUSTOM]},
        {"timesteps": [top // 2, top // 4, 1], "sigmas": CUSTOM[:3]},
        {"sigmas": CUSTOM[:4], "num_inference_steps": 4},
    ):
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(**given, mu=mu)
        # The reference computes with given levels in float32, which inverting and stretching them amplifies.
        assert_same_schedule(ours, theirs, share_of_highest=1e-6)
        assert ours.num_inference_steps == theirs.num_inference_steps


@pytest.mark.parametrize("spacing", SPACINGS, ids=lambda spacing: next(iter(spacing), "even"))
def test_a_single_step_agrees(spacing):
    ours, theirs = pair(shift=3.0, **spacing)
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(1)
    assert_same_schedule(ours, theirs)


def test_setting_the_shift_agrees():
    ours, theirs = pair(shift=3.0)
    for scheduler in (ours, theirs):
        scheduler.set_shift(5.0)
        scheduler.set_timesteps(10)
    assert ours.shift == theirs.shift
    assert_same_schedule(ours, theirs)


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("options", [{"shift": 3.0}, {"invert_sigmas": True}, {"use_karras_sigmas": True}], ids=str)
def test_a_whole_run_agrees(options, stochastic):
    results = []
    for scheduler in pair(stochastic_sampling=stochastic, **options):
        scheduler.set_timesteps(12)
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(2, 4, 3, 8, 8, generator=generator)
        for timestep in scheduler.timesteps:
            prediction = torch.sin(3 * latents) + timestep / 1000
            latents = scheduler.step(prediction, timestep, latents, generator=generator).prev_sample
        results.append(latents)
        assert scheduler.step_index == 12
    torch.testing.assert_close(*results, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("stochastic", [False, True])
def test_steps_from_per_token_timesteps_agree(stochastic):
    results = []
    for scheduler in pair(shift=3.0, stochastic_sampling=stochastic):
        scheduler.set_timesteps(9)
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(2, 6, 4, generator=generator)
        held_at = torch.tensor([[1000.0, 900.0, 500.0, 40.0, 0.0, 333.0], [0.0, 1.0, 700.0, 1000.0, 999.0, 5.0]])
        for timestep in scheduler.timesteps:
            tokens = torch.minimum(timestep.expand(2, 6), held_at)
            prediction = torch.sin(3 * latents).bfloat16()
            (latents,) = scheduler.step(
                prediction, timestep, latents, generator=generator, per_token_timesteps=tokens, return_dict=False
            )
            assert latents.dtype == torch.float32
        results.append(latents)
    torch.testing.assert_close(*results, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(("latents_dtype", "dtype"), [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float16)])
@pytest.mark.parametrize("stochastic", [False, True])
def test_in_half_precision_the_step_is_no_worse_than_the_reference(latents_dtype, dtype, stochastic):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 5, 16, 16, generator=generator).to(latents_dtype)
    prediction = torch.randn(1, 4, 5, 16, 16, generator=generator).to(dtype)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    errors = []
    for scheduler in pair(stochastic_sampling=stochastic):
        scheduler.set_timesteps(7)
        sigma, sigma_next = scheduler.sigmas[:2].tolist()
        exact = latents.double() + (sigma_next - sigma) * prediction.double()
        if stochastic:
            exact = (1 - sigma_next) * (latents.double() - sigma * prediction.double()) + sigma_next * noise
        generator = torch.Generator().manual_seed(1)
        result = scheduler.step(prediction, scheduler.timesteps[0], latents, generator=generator).prev_sample
        assert result.dtype == dtype
        errors.append((result.double() - exact).abs().mean())
    assert errors[0] <= 1.001 * errors[1]


def test_starting_in_the_middle_agrees():
    results = []
    for scheduler in pair(shift=3.0):
        scheduler.set_timesteps(10)
        latents = torch.linspace(-1, 1, 20)
        by_timestep = scheduler.step(latents, scheduler.timesteps[4], latents)[0]
        scheduler.set_timesteps(10)
        scheduler.set_begin_index(6)
        by_index = scheduler.step(latents, scheduler.timesteps[6], latents)[0]
        assert (scheduler.begin_index, scheduler.step_index) == (6, 7)
        results.append(torch.stack([by_timestep, by_index]))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)


def test_the_index_of_a_repeated_timestep_agrees():
    for scheduler in pair():
        scheduler.set_timesteps(timesteps=[900.0, 500.0, 500.0, 500.0, 100.0])
        assert [scheduler.index_for_timestep(timestep) for timestep in scheduler.timesteps] == [0, 2, 2, 2, 4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noising_agrees(dtype):
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 2, 5, generator=generator).to(dtype)
    results = []
    for scheduler in pair(shift=3.0):
        training = scheduler.scale_noise(clean, scheduler.timesteps[[5, 900, 0]], noise)
        scheduler.set_timesteps(10)
        by_timesteps = scheduler.scale_noise(clean, scheduler.timesteps[[1, 7, 9]], noise)
        scheduler.set_begin_index(4)
        before = scheduler.scale_noise(clean, scheduler.timesteps[[4, 4, 4]], noise)
        scheduler.step(noise, scheduler.timesteps[4], clean)
        within = scheduler.scale_noise(clean, scheduler.timesteps[[5, 5, 5]], noise)
        results.append(torch.stack([training, by_timesteps, before, within]))
    # The reference rounds each product to bfloat16, we round the sum only.
    tolerance = 1e-6 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)


def test_the_reference_reads_what_we_save_and_the_other_way_round(tmp_path):
    options = {"shift": 3.0, "use_dynamic_shifting": True, "shift_terminal": 0.1, "base_image_seq_len": 1024}
    ours, theirs = pair(**options)
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs" / "scheduler")
    read_by_them = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path / "ours")
    read_by_us = FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path / "theirs", subfolder="scheduler")
    assert all(read_by_them.config[name] == value for name, value in ours.config.items())
    assert read_by_us.config == ours.config
