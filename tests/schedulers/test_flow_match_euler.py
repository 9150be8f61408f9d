"""Flow matching by Euler steps: known answers, runs of their own, and the layer for Diffusers' loops."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from filmstrip.configuration import Configured
from filmstrip.schedulers import FlowMatchEulerDiscreteScheduler

SPACINGS = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def finish(run, latents, velocity):
    for step in range(len(run.timesteps)):
        latents = run.step(velocity(latents), step, latents)
    return latents


@pytest.mark.parametrize("num_steps", [1, 2, 7, 40])
@pytest.mark.parametrize("options", [{}, {"shift": 5.0}, {"use_karras_sigmas": True}, {"shift_terminal": 0.1}], ids=str)
def test_a_straight_flow_is_exact_for_any_number_of_steps(options, num_steps):
    noise, clean = torch.randn(2, 1, 4, 3, 8, 8, dtype=torch.float64)
    run = FlowMatchEulerDiscreteScheduler(**options).start(num_steps)
    torch.testing.assert_close(finish(run, noise, lambda latents: noise - clean), clean, rtol=0, atol=1e-13)


def test_an_inverted_flow_runs_towards_one():
    noise, clean = torch.randn(2, 1, 4, 3, 8, 8, dtype=torch.float64)
    run = FlowMatchEulerDiscreteScheduler(invert_sigmas=True).start(6)
    assert run.sigmas[0] == 0 and run.sigmas[-1] == 1
    torch.testing.assert_close(finish(run, noise, lambda latents: clean - noise), clean, rtol=0, atol=1e-13)


def test_a_step_by_hand():
    run = FlowMatchEulerDiscreteScheduler().start(sigmas=[1.0, 0.75, 0.25])
    assert run.sigmas.tolist() == [1.0, 0.75, 0.25, 0.0] and run.timesteps.tolist() == [1000.0, 750.0, 250.0]
    assert run.step(torch.tensor([2.0]), 1, torch.tensor([5.0])).tolist() == [4.0]


def test_a_stochastic_step_mixes_the_estimate_with_fresh_noise():
    run = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True).start(sigmas=[1.0, 0.5])
    latents, prediction = torch.full((1, 4), 3.0), torch.full((1, 4), 2.0)
    noise = torch.randn(1, 4, generator=seeded(5))
    half_way = run.step(prediction, 0, latents, generator=seeded(5))
    torch.testing.assert_close(half_way, 0.5 * (latents - prediction) + 0.5 * noise)
    torch.testing.assert_close(run.step(prediction, 1, latents), latents - 0.5 * prediction)


def test_the_noise_of_a_stochastic_run_is_its_generators():
    scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    latents = torch.ones(2, 3)
    before = torch.get_rng_state()

    def result(seed):
        return finish(scheduler.start(4, generator=seeded(seed)), latents, torch.sin)

    assert torch.equal(result(1), result(1)) and not torch.equal(result(1), result(2))
    assert torch.equal(torch.get_rng_state(), before)
    alone = scheduler.start(4, generator=seeded(2))
    both = scheduler.start(4, generator=[seeded(1), seeded(2)])
    torch.testing.assert_close(finish(both, latents, torch.sin)[1:], finish(alone, latents[1:], torch.sin))


def test_each_token_steps_from_its_own_level_to_the_next_lower_one():
    run = FlowMatchEulerDiscreteScheduler().start(sigmas=[1.0, 0.75, 0.25])
    tokens = torch.tensor([[1000.0, 750.0, 600.0, 250.0, 100.0, 0.0]])
    latents, prediction = torch.zeros(1, 6, 1), torch.ones(1, 6, 1)
    stepped = run.step(prediction, 0, latents, per_token_timesteps=tokens)
    torch.testing.assert_close(stepped[0, :, 0], -torch.tensor([0.25, 0.5, 0.35, 0.25, 0.1, 0.0]))


@pytest.mark.parametrize("stochastic", [False, True])
def test_tokens_at_the_schedules_own_level_step_as_without_them(stochastic):
    run = FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=stochastic).start(5)
    latents, prediction = torch.randn(2, 1, 6, 4)
    for step, timestep in enumerate(run.timesteps):
        tokens = timestep.expand(1, 6)
        per_token = run.step(prediction, step, latents, generator=seeded(0), per_token_timesteps=tokens)
        torch.testing.assert_close(per_token, run.step(prediction, step, latents, generator=seeded(0)))


@given(
    st.integers(2, 60),
    st.floats(0.2, 12),
    st.sampled_from([None, *SPACINGS]),
    st.sampled_from([None, 0.02, 0.1]),
)
def test_schedules_fall_from_noise_to_clean(num_steps, shift, spacing, terminal):
    options = {spacing: True} if spacing else {}
    run = FlowMatchEulerDiscreteScheduler(shift=shift, shift_terminal=terminal, **options).start(num_steps)
    sigmas = run.sigmas.double()
    assert len(sigmas) == num_steps + 1 and len(run.timesteps) == num_steps
    assert sigmas[0] == 1 and sigmas[-1] == 0 and (sigmas.diff() < 0).all()
    assert terminal is None or sigmas[-2] == pytest.approx(terminal, rel=1e-6)
    torch.testing.assert_close(run.timesteps, 1000 * run.sigmas[:-1])


def test_a_single_step_with_a_terminal_is_finite():
    assert FlowMatchEulerDiscreteScheduler(shift_terminal=0.1).start(1).sigmas.tolist() == [1.0, 0.0]


def test_the_dynamic_shift_is_the_static_one():
    dynamic = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    linear = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="linear")
    levels = np.linspace(1, 0.1, 10)
    static = FlowMatchEulerDiscreteScheduler(shift=3.0).start(sigmas=levels)
    torch.testing.assert_close(dynamic.start(sigmas=levels, mu=np.log(3.0)).sigmas, static.sigmas)
    torch.testing.assert_close(linear.start(sigmas=levels, mu=3.0).sigmas, static.sigmas)


def test_given_timesteps_are_fed_as_they_are():
    timesteps = [1000, 993, 987, 725, 0.03]
    run = FlowMatchEulerDiscreteScheduler().start(timesteps=timesteps)
    torch.testing.assert_close(run.timesteps, torch.tensor(timesteps), rtol=0, atol=0)
    torch.testing.assert_close(run.sigmas[:-1], torch.tensor(timesteps) / 1000)
    both = FlowMatchEulerDiscreteScheduler().start(timesteps=[900.0, 100.0], sigmas=[1.0, 0.5])
    assert both.timesteps.tolist() == [900.0, 100.0] and both.sigmas.tolist() == [1.0, 0.5, 0.0]


def test_given_timesteps_need_no_mu_and_are_then_not_moved():
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1)
    run = scheduler.start(timesteps=[1000.0, 500.0, 250.0])
    assert run.sigmas.tolist() == [1.0, 0.5, 0.25, 0.0] and run.timesteps.tolist() == [1000.0, 500.0, 250.0]


def test_sigmas_that_leave_the_given_timesteps_are_warned_about(caplog):
    with caplog.at_level(logging.WARNING):
        FlowMatchEulerDiscreteScheduler().start(timesteps=[1000.0, 500.0])
        assert not caplog.records
        run = FlowMatchEulerDiscreteScheduler(shift=3.0).start(timesteps=[1000.0, 500.0])
    assert "move the sigmas away from the given timesteps" in caplog.text
    assert run.sigmas.tolist() == [1.0, 0.75, 0.0]


def test_two_interleaved_runs_equal_two_in_turn():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True)
    starts = torch.randn(2, 1, 4, 8)

    def runs():
        return scheduler.start(6, generator=seeded(1)), scheduler.start(6, generator=seeded(2))

    in_turn = [finish(run, latents, torch.cos) for run, latents in zip(runs(), starts, strict=True)]
    interleaved, pair = list(starts), runs()
    for step in range(6):
        for index, run in enumerate(pair):
            interleaved[index] = run.step(torch.cos(interleaved[index]), step, interleaved[index])
    assert all(torch.equal(one, other) for one, other in zip(in_turn, interleaved, strict=True))


def test_a_run_leaves_the_scheduler_as_it_was():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(4)
    timesteps = scheduler.timesteps.clone()
    finish(scheduler.start(9), torch.randn(1, 3), torch.sin)
    assert torch.equal(scheduler.timesteps, timesteps) and scheduler.step_index is None


@pytest.mark.parametrize("options", [{"shift": 3.0}, {"use_beta_sigmas": True, "stochastic_sampling": True}], ids=str)
def test_the_layer_equals_the_run(options):
    scheduler = FlowMatchEulerDiscreteScheduler(**options)
    start = torch.randn(1, 4, 8)
    expected = finish(scheduler.start(5, generator=seeded(3)), start, torch.sin)
    scheduler.set_timesteps(5, device="cpu")
    latents, generator = start * scheduler.init_noise_sigma, seeded(3)
    for index, timestep in enumerate(scheduler.timesteps):
        prediction = torch.sin(scheduler.scale_model_input(latents, timestep))
        output = scheduler.step(prediction, timestep, latents, generator=generator)
        assert output.prev_sample is output[0] and scheduler.step_index == index + 1
        latents = output.prev_sample
    assert torch.equal(latents, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_step_changes_no_input_and_keeps_the_predictions_type(dtype):
    run = FlowMatchEulerDiscreteScheduler().start(3)
    latents, prediction = torch.randn(2, 1, 4, 8)
    prediction = prediction.to(dtype)
    copies = latents.clone(), prediction.clone()
    assert run.step(prediction, 0, latents).dtype == dtype
    assert torch.equal(latents, copies[0]) and torch.equal(prediction, copies[1])


def test_noise_is_added_up_to_the_steps_level():
    scheduler = FlowMatchEulerDiscreteScheduler()
    clean, noise = torch.randn(2, 3, 4, 8)
    run = scheduler.start(sigmas=[1.0, 0.5])
    assert torch.equal(run.add_noise(clean, noise, 0), noise)
    torch.testing.assert_close(run.add_noise(clean, noise, 1), (clean + noise) / 2)
    scheduler.set_timesteps(sigmas=[1.0, 0.5])
    timesteps = scheduler.timesteps[[0, 1, 1]]
    mixed = scheduler.scale_noise(clean, timesteps, noise)
    torch.testing.assert_close(mixed, torch.stack([noise[0], *(clean + noise)[1:] / 2]))
    assert torch.equal(mixed, scheduler.add_noise(clean, noise, timesteps))
    assert run.add_noise(clean.bfloat16(), noise, 1).dtype == torch.float32


def test_training_timesteps_can_be_whole_numbers():
    scheduler = FlowMatchEulerDiscreteScheduler()
    clean, noise = torch.zeros(2, 3), torch.ones(2, 3)
    mixed = scheduler.scale_noise(clean, torch.tensor([254, 500]), noise)
    torch.testing.assert_close(mixed, torch.tensor([[0.254] * 3, [0.5] * 3]))


def test_a_timestep_is_found_in_spite_of_rounding_and_an_unknown_one_is_not():
    scheduler = FlowMatchEulerDiscreteScheduler()
    rounded = scheduler.timesteps.round()
    index = int((scheduler.timesteps != rounded).nonzero()[0])
    assert scheduler.index_for_timestep(rounded[index]) == index
    assert scheduler.index_for_timestep(rounded[index].item(), scheduler.timesteps) == index
    batch = scheduler.timesteps[[7, 0, 999]]
    assert scheduler.index_for_timestep(batch).tolist() == [7, 0, 999]
    with pytest.raises(IndexError, match=r"timestep 999.5 is not in the schedule"):
        scheduler.index_for_timestep((scheduler.timesteps[0] + scheduler.timesteps[1]) / 2)


def test_the_first_timestep_is_read_without_asking_the_device():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(5, device="meta")  # holds no numbers, so that reading one would fail
    timesteps = list(scheduler.timesteps)
    latents = torch.zeros(1, 2, 3, device="meta")
    assert scheduler.step(latents, timesteps[2], latents)[0].device.type == "meta"
    assert scheduler.step_index == 3


def test_swapping_schedulers_keeps_what_both_know():
    class Other(Configured):
        def __init__(self, num_train_timesteps: int = 500, beta_start: float = 0.1, shift: float = 2.0) -> None:
            pass

    swapped = FlowMatchEulerDiscreteScheduler.from_config(
        Other(num_train_timesteps=250).config, stochastic_sampling=True
    )
    assert swapped.config.num_train_timesteps == len(swapped) == 250
    assert swapped.config.stochastic_sampling is True
    assert swapped.shift == 1.0 and "beta_start" not in swapped.config  # 2.0 was only the other's default


def test_settings_are_saved_and_loaded_and_can_be_replaced_on_the_way(tmp_path):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, shift_terminal=0.1)
    scheduler.save_pretrained(tmp_path / "scheduler")
    assert (tmp_path / "scheduler" / "scheduler_config.json").is_file()
    loaded = FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path, subfolder="scheduler", shift=5.0)
    assert loaded.config == dict(scheduler.config) | {"shift": 5.0} and loaded.shift == 5.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_karras_sigmas": True, "use_beta_sigmas": True}, "got use_karras_sigmas and use_beta_sigmas"),
        ({"time_shift_type": "cubic"}, "must be one of exponential, linear, got .cubic."),
        ({"shift": 0.0}, "shift must be above 0, got 0.0"),
    ],
)
def test_settings_that_contradict_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FlowMatchEulerDiscreteScheduler(**options)


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({"use_dynamic_shifting": True}, {"num_inference_steps": 4}, "needs mu"),
        ({"use_dynamic_shifting": True}, {"sigmas": [1.0, 0.5]}, "needs mu"),
        (
            {"use_dynamic_shifting": True, "time_shift_type": "linear"},
            {"num_inference_steps": 4, "mu": -1.0},
            "mu must be above 0",
        ),
        ({}, {}, "the number of steps is missing"),
        ({}, {"sigmas": [1.0, 0.5], "timesteps": [1000.0]}, "sigmas: 2, timesteps: 1"),
        ({}, {"timesteps": [100.0, 900.0]}, "timesteps must fall"),
        ({}, {"timesteps": [1001.0]}, "between 0 .clean. and 1000"),
    ],
)
def test_schedules_that_cannot_be_made_are_refused(options, arguments, message):
    scheduler = FlowMatchEulerDiscreteScheduler(**options)
    for start in (scheduler.start, scheduler.set_timesteps):
        with pytest.raises(ValueError, match=message):
            start(**arguments)


def test_steps_that_make_no_sense_are_refused():
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(2)
    latents = torch.zeros(1, 2)
    for index in (0, torch.tensor(0)):
        with pytest.raises(ValueError, match=r"pass scheduler.timesteps\[index\]"):
            scheduler.step(latents, index, latents)
    with pytest.raises(ValueError, match="flow matching has no s_churn"):
        scheduler.step(latents, scheduler.timesteps[0], latents, s_churn=0.5)
    for timestep in scheduler.timesteps:
        scheduler.step(latents, timestep, latents)
    with pytest.raises(ValueError, match="all 2 steps of this schedule are done"):
        scheduler.step(latents, scheduler.timesteps[1], latents)
