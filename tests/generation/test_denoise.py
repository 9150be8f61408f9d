"""The one loop."""

import pytest
import torch

from filmstrip.generation.denoise import denoise
from filmstrip.generation.finite import NonFiniteError, check_finite
from filmstrip.schedulers import FlowMatchEulerDiscreteScheduler

NOISE, CLEAN = torch.randn(2, 1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def straight(latents, timestep, condition):
    """The velocity of the straight flow from noise to clean latents."""
    return NOISE - CLEAN


def unguided(predict, latents, timestep):
    return predict(latents, timestep, None)


def steps_of(num_steps, predict=straight, latents=NOISE, begin=0, **settings):
    run = FlowMatchEulerDiscreteScheduler(**settings).start(num_steps)
    return denoise(predict, latents, run, unguided, begin=begin)


@pytest.mark.parametrize("num_steps", [1, 2, 7, 50])
@pytest.mark.parametrize("settings", [{}, {"shift": 3.0}, {"use_karras_sigmas": True}], ids=str)
def test_a_straight_flow_is_exact_for_any_number_of_steps(num_steps, settings):
    (*_, last) = steps_of(num_steps, **settings)
    torch.testing.assert_close(last.latents, CLEAN, rtol=1e-4, atol=1e-4)


def test_every_step_is_told_with_its_number_and_timestep():
    steps = list(steps_of(4))
    assert [(step.index, step.total) for step in steps] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    timesteps = FlowMatchEulerDiscreteScheduler().start(4).timesteps.tolist()
    assert [step.timestep for step in steps] == timesteps


def test_a_flow_that_begins_in_the_middle_starts_from_latents_as_noisy_as_the_schedule():
    run = FlowMatchEulerDiscreteScheduler().start(10)
    half = run.add_noise(CLEAN, NOISE, 6)
    steps = list(steps_of(10, latents=half, begin=6))
    assert [(step.index, step.total) for step in steps] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    torch.testing.assert_close(steps[-1].latents, CLEAN, rtol=1e-4, atol=1e-4)


def test_the_loop_goes_on_from_what_its_reader_leaves():
    seen = []

    def predict(latents, timestep, condition):
        seen.append(latents)
        return torch.zeros_like(latents)

    for step in steps_of(3, predict):
        step.latents = torch.full_like(NOISE, step.index + 10.0)
    assert torch.equal(seen[0], NOISE)
    assert [tensor.mean().item() for tensor in seen[1:]] == [10.0, 11.0]


def test_nothing_is_computed_before_it_is_read():
    calls = []

    def predict(latents, timestep, condition):
        calls.append(timestep)
        return latents

    steps = steps_of(5, predict)
    assert calls == []
    next(steps)
    next(steps)
    steps.close()
    assert len(calls) == 2


def test_latents_that_are_given_are_not_written_to():
    before = NOISE.clone()
    list(steps_of(3))
    assert torch.equal(NOISE, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_prediction_that_is_not_finite_stops_at_its_step_and_names_the_network(value):
    def predict(latents, timestep, condition):
        prediction = torch.zeros_like(latents)
        if timestep < 600:
            prediction[0, 0, 0, 0, 0] = value
        return prediction

    steps = denoise(predict, NOISE, FlowMatchEulerDiscreteScheduler().start(4), unguided, network="example network")
    with pytest.raises(NonFiniteError, match=r"The example network gave values that are not finite at step 3 of 4"):
        list(steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_large_values_are_finite(dtype):
    large = torch.full((64, 64), torch.finfo(dtype).max, dtype=dtype)
    assert check_finite(large, "network") is large
    assert check_finite(torch.cat([large, -large]), "network").isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_in_many_is_found(value):
    tensor = torch.zeros(1000, 100)
    tensor[777, 33] = value
    with pytest.raises(NonFiniteError, match=r"^The network gave values that are not finite at somewhere"):
        check_finite(tensor, "network", "somewhere")


def test_infinities_of_both_signs_do_not_cancel():
    with pytest.raises(NonFiniteError):
        check_finite(torch.tensor([float("inf"), float("-inf")]), "network")


def test_in_half_precision_the_remedy_is_a_wider_type():
    with pytest.raises(NonFiniteError, match=r"load it with torch_dtype=torch\.bfloat16"):
        check_finite(torch.full((2,), float("nan"), dtype=torch.float16), "network")
