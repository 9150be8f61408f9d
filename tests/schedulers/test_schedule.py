"""The arithmetic of noise levels, against closed forms and values worked out elsewhere."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from filmstrip.schedulers.prediction import combine, joined, scaled
from filmstrip.schedulers.schedule import (
    beta_levels,
    calculate_shift,
    exponential_levels,
    falling_levels,
    interpolation_weights,
    karras_levels,
    linear_quadratic_schedule,
    number_of_steps,
    shift_levels,
    stretch_to_terminal,
    symmetric_beta_quantile,
)

SHIFTS = st.floats(0.05, 20)
EVEN = np.linspace(1, 0.1, 10)


def test_shifting_by_hand():
    np.testing.assert_allclose(shift_levels(np.array([1, 0.5, 0.25, 0]), 3.0), [1, 0.75, 0.5, 0], rtol=1e-15)


@given(SHIFTS)
def test_the_inverse_shift_undoes_a_shift(shift):
    np.testing.assert_allclose(shift_levels(shift_levels(EVEN, shift), 1 / shift), EVEN, rtol=1e-12)


@given(SHIFTS, SHIFTS)
def test_shifts_multiply(first, second):
    np.testing.assert_allclose(
        shift_levels(shift_levels(EVEN, first), second), shift_levels(EVEN, first * second), rtol=1e-12
    )


@given(st.floats(-3, 3))
def test_an_exponential_shift_moves_the_log_odds_by_mu(mu):
    odds = np.log(EVEN[1:] / (1 - EVEN[1:]))
    shifted = shift_levels(EVEN, math.exp(mu))[1:]
    np.testing.assert_allclose(np.log(shifted / (1 - shifted)), odds + mu, rtol=1e-9, atol=1e-9)


def test_mu_follows_the_line_and_continues_it():
    line = {"base_seq_len": 1024, "max_seq_len": 4096, "base_shift": 0.95, "max_shift": 2.05}
    assert calculate_shift(1024, **line) == 0.95
    assert calculate_shift(4096, **line) == pytest.approx(2.05, rel=1e-15)
    assert calculate_shift(7168, **line) == pytest.approx(3.15, rel=1e-15)


@given(st.floats(0.01, 0.9))
def test_stretching_moves_the_last_level_and_keeps_pure_noise(terminal):
    stretched = stretch_to_terminal(EVEN, terminal)
    assert stretched[0] == 1 and stretched[-1] == pytest.approx(terminal, abs=1e-12)
    np.testing.assert_allclose(np.diff(stretched), np.diff(stretched)[0], rtol=1e-9)


def test_a_single_level_of_pure_noise_is_not_stretched():
    assert stretch_to_terminal(np.array([1.0]), 0.1).tolist() == [1.0]


@pytest.mark.parametrize("respaced", [karras_levels, exponential_levels, beta_levels])
def test_respacing_keeps_both_ends_and_falls(respaced):
    levels = respaced(0.98, 0.02, 9)
    assert len(levels) == 9
    assert levels[[0, -1]] == pytest.approx([0.98, 0.02], rel=1e-12)
    assert (np.diff(levels) < 0).all()
    assert respaced(0.98, 0.02, 1) == pytest.approx([0.98], rel=1e-12)


def test_the_middle_of_each_spacing_by_hand():
    assert karras_levels(1.0, 0.0, 3)[1] == pytest.approx(1 / 128)
    assert exponential_levels(1.0, 0.01, 3)[1] == pytest.approx(0.1)
    assert beta_levels(1.0, 0.2, 3)[1] == pytest.approx(0.6)


def test_exponential_sigmas_cannot_reach_zero():
    with pytest.raises(ValueError, match="can't reach a noise level of 0; end the schedule above zero"):
        exponential_levels(1.0, 0.0, 3)


def test_quantiles_of_known_distributions():
    share = np.linspace(0, 1, 21)
    np.testing.assert_allclose(symmetric_beta_quantile(share, 1.0), share, atol=1e-15)  # uniform
    arcsine = np.sin(np.pi * share / 2) ** 2
    np.testing.assert_allclose(symmetric_beta_quantile(share, 0.5), arcsine, atol=1e-14)


@pytest.mark.parametrize("concentration", [0.3, 0.6, 0.9])
def test_quantiles_agree_with_scipy(concentration):
    stats = pytest.importorskip("scipy.stats")
    share = np.concatenate([np.linspace(0, 1, 201), [1e-9, 1e-4, 0.5 - 1e-9, 0.5 + 1e-9, 1 - 1e-6]])
    expected = stats.beta.ppf(share, concentration, concentration)
    np.testing.assert_allclose(symmetric_beta_quantile(share, concentration), expected, rtol=1e-11, atol=1e-14)


def test_linear_quadratic_by_hand():
    # Two even steps of 0.05, then 1 - 0.1 - 0.05 k - c k^2 with c such that k = 2 gives 0.
    assert linear_quadratic_schedule(4, threshold_noise=0.1) == pytest.approx([1, 0.95, 0.9, 0.9 - 0.05 - 0.2])
    assert linear_quadratic_schedule(1) == [1.0]


@given(st.integers(2, 100), st.floats(0.001, 0.2), st.data())
def test_linear_quadratic_starts_even_and_then_falls_ever_faster(num_steps, threshold, data):
    linear_steps = data.draw(st.one_of(st.none(), st.integers(max(1, num_steps // 3), num_steps - 1)))
    levels = [*linear_quadratic_schedule(num_steps, threshold, linear_steps), 0.0]
    drops = [level - following for level, following in pairwise(levels)]
    even = num_steps // 2 if linear_steps is None else linear_steps
    assert len(levels) == num_steps + 1 and levels[0] == 1
    assert drops[:even] == pytest.approx([threshold / even] * even)
    if threshold * num_steps < even:  # otherwise the even part is the steeper one
        assert all(following >= drop - 1e-12 for drop, following in pairwise(drops))


@pytest.mark.parametrize("values", [[1, 0.5, 0.5, 0], (1.0, 0.0), np.array([0.3], np.float32), torch.tensor([1, 0.25])])
def test_levels_are_read_from_any_list_of_numbers(values):
    levels = falling_levels("sigmas", values, 1.0)
    assert levels.dtype == np.float64 and levels.tolist() == [float(value) for value in values]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"sigmas must be a list of at least one number, got shape \(0,\)"),
        ([[1.0, 0.5]], r"got shape \(1, 2\)"),
        ([0.5, 1.0], r"sigmas must fall from noise to clean, got \[0.5, 1.0\]; sort them"),
        ([1000.0, 500.0], r"sigmas must lie between 0 \(clean\) and 1 \(noise\)"),
        ([1.0, -0.1], "must lie between"),
        ([1.0, math.nan], "must lie between"),
    ],
)
def test_levels_that_make_no_schedule_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        falling_levels("sigmas", values, 1.0)


def test_the_number_of_steps_is_what_all_agree_on():
    assert number_of_steps(3, None, None) == 3
    assert number_of_steps(3, EVEN[:3], EVEN[:3]) == number_of_steps(None, None, EVEN[:3]) == 3
    with pytest.raises(ValueError, match="num_inference_steps: 4, timesteps: 3"):
        number_of_steps(4, None, EVEN[:3])
    with pytest.raises(ValueError, match="sigmas: 2, timesteps: 3"):
        number_of_steps(None, EVEN[:2], EVEN[:3])
    with pytest.raises(ValueError, match="give num_inference_steps, sigmas or timesteps"):
        number_of_steps(None, None, None)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        number_of_steps(0, None, None)


def test_interpolation_weights_integrate_a_polynomial_through_the_nodes():
    nodes, end = [0.0, -0.7, -1.9, -2.0], 1.5
    integrals = [end ** (power + 1) / (power + 1) for power in range(4)]
    weights = interpolation_weights(nodes, integrals)
    cubic = [2.0, -1.0, 0.5, 3.0]  # coefficients of the powers
    values = [sum(c * node**power for power, c in enumerate(cubic)) for node in nodes]
    exact = sum(c * integral for c, integral in zip(cubic, integrals, strict=True))
    assert sum(w * value for w, value in zip(weights, values, strict=True)) == pytest.approx(exact, rel=1e-12)
    assert interpolation_weights([0.3], [2.0]) == [2.0]


def test_a_tensor_that_comes_up_twice_in_a_sum_is_weighed_once():
    first, second = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    total = combine((0.1, first), *scaled(-0.1, [(1.0, first), (2.0, second)]), (1.0, first))
    torch.testing.assert_close(total, first - 0.2 * second, rtol=0, atol=0)
    ((weight, tensor),) = joined([(0.5, first), (-3.0, second)])
    torch.testing.assert_close(weight * tensor, 0.5 * first - 3 * second)
    assert joined([(2.0, first)])[0][1] is first
