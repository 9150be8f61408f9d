"""DPM-Solver, UniPC and DEIS against the reference implementation, over grids of their options."""

import diffusers
import numpy as np
import pytest
import torch

import filmstrip.schedulers
from tests.parity.references import relative_error
from tests.parity.sampling import BETAS, FLOW, RESPACINGS, SPACINGS, cases, expect_the_same_runs, grid, loop, pair

KINDS = [{"prediction_type": kind} for kind in ("epsilon", "sample", "v_prediction")]
PUBLISHED = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
FLOWS = [FLOW, {**FLOW, "flow_shift": 3.0}, {**FLOW, "flow_shift": 5.0, "solver_order": 3}]
DYNAMIC = {**FLOW, "use_dynamic_shifting": True}
ABOVE_ZERO = {"final_sigmas_type": "sigma_min"}
ALGORITHMS = [
    {"algorithm_type": "dpmsolver++"},
    {"algorithm_type": "dpmsolver", **ABOVE_ZERO},
    {"algorithm_type": "sde-dpmsolver++"},
    {"algorithm_type": "sde-dpmsolver", **ABOVE_ZERO},
]
ORDERS = [{"solver_order": order} for order in (1, 2, 3)]
ENDS = [
    {"lower_order_final": False},
    {"euler_at_final": True},
    ABOVE_ZERO,
    {"lower_order_final": False, **ABOVE_ZERO},
]
LU = {"use_lu_lambdas": True}

DPM = (
    [
        row
        for row in grid(ALGORITHMS, ORDERS, KINDS)
        if (row["algorithm_type"], row["solver_order"]) != ("sde-dpmsolver", 3)
    ]
    + grid(ALGORITHMS, [{"solver_type": "heun"}])
    + grid(SPACINGS, [*RESPACINGS, LU])
    + grid(BETAS, [{"use_karras_sigmas": True}, LU, {"lambda_min_clipped": -5.1}])
    + grid(ENDS, ORDERS[1:])
    + grid(FLOWS, [{}, ABOVE_ZERO])
    + [PUBLISHED, PUBLISHED | {"solver_order": 3}, {"thresholding": True, "sample_max_value": 1.5}]
    + [{"thresholding": True, "algorithm_type": "dpmsolver", **ABOVE_ZERO}]
)
SINGLE = (
    grid(ALGORITHMS[:3], ORDERS, KINDS)
    + grid(ALGORITHMS[:2], ORDERS[1:], [{"solver_type": "heun"}])
    + grid(ALGORITHMS[2:3], ORDERS[1:2], [{"solver_type": "heun"}])
    + RESPACINGS
    + grid(BETAS, [{"lambda_min_clipped": -5.1}])
    + grid([{"lower_order_final": True}], ORDERS, [{}, ABOVE_ZERO])
    + FLOWS
    + [{"thresholding": True, "sample_max_value": 1.5}]
)
UNIPC = (
    grid([{}, {"predict_x0": False, **ABOVE_ZERO}], [{"solver_type": "bh1"}, {}], ORDERS, KINDS)
    + grid(SPACINGS, RESPACINGS)
    + grid(RESPACINGS, [ABOVE_ZERO, {"sigma_min": 0.05, "sigma_max": 40.0}])
    + grid(BETAS, [{"use_karras_sigmas": True}, {}])
    + [{"disable_corrector": [0, 1, 4]}, {"lower_order_final": False, **ABOVE_ZERO, "solver_order": 3}]
    + grid(FLOWS, [{}, ABOVE_ZERO, {"use_karras_sigmas": True}])
    + [PUBLISHED, PUBLISHED | {"solver_order": 3}, {"thresholding": True, "sample_max_value": 1.5}]
)
DEIS = (
    grid(ORDERS, KINDS)
    + grid(SPACINGS, RESPACINGS)
    + grid(BETAS, [{"use_karras_sigmas": True}, {"lower_order_final": False, "solver_order": 3}])
    + [{"thresholding": True, "sample_max_value": 1.5}]
)
TABLE = {
    "UniPCMultistepScheduler": UNIPC,
    "DEISMultistepScheduler": DEIS,
    "DPMSolverMultistepScheduler": DPM,
    "DPMSolverSinglestepScheduler": SINGLE,
}


@pytest.mark.parametrize(("name", "options"), cases(TABLE))
def test_tables_and_whole_runs_agree(name, options):
    # By index, since respaced timesteps may repeat, and the first of them is then not found by its value.
    expect_the_same_runs(name, options, by_index=True)


@pytest.mark.parametrize(("options", "call"), [*((one, {}) for one in FLOWS), (DYNAMIC, {"mu": 1.1})])
def test_deis_of_a_flow_agrees_up_to_the_last_step(options, call):
    for steps in (2, 7, 20):  # the reference's stays where it is
        ours, theirs = pair("DEISMultistepScheduler", **options)
        mine, reference = (loop(one, steps, by_index=True, dtype=torch.float64, **call) for one in (ours, theirs))
        assert relative_error(mine[:-1], reference[:-1]) <= 3e-4  # it has its weights, above 1000, in float32
        torch.testing.assert_close(ours.sigmas[:-1], theirs.sigmas[:-1], rtol=1e-6, atol=1e-9)
        assert ours.sigmas[-1] == 0 < theirs.sigmas[-1]


def test_short_runs_agree_where_long_ones_have_no_stable_result():
    options = {"algorithm_type": "sde-dpmsolver++", "solver_order": 3, "solver_type": "heun"}
    expect_the_same_runs("DPMSolverSinglestepScheduler", options, num_steps=(1, 2, 3, 7))


@pytest.mark.parametrize("shift", [1.0, 4.0])
def test_a_flow_stretched_to_a_terminal_agrees_from_two_steps_on(shift):
    options = {**FLOW, "flow_shift": shift, "shift_terminal": 0.1}
    expect_the_same_runs("UniPCMultistepScheduler", options, num_steps=(2, 3, 8))


def test_timesteps_are_cut_to_the_same_whole_numbers():
    given = np.array([0.798265097362086, 0.48621515836048806])  # the second is stretched to just below 0.02
    expect_the_same_runs("UniPCMultistepScheduler", {**FLOW, "shift_terminal": 0.02}, num_steps=(None,), sigmas=given)


SOLVERS = [
    ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("DPMSolverSinglestepScheduler", {"solver_order": 3}),
    ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("UniPCMultistepScheduler", {"solver_order": 3}),
    ("DEISMultistepScheduler", {"solver_order": 3}),
]


@pytest.mark.parametrize("by_index", [False, True])
@pytest.mark.parametrize(("name", "options"), SOLVERS)
def test_starting_in_the_middle_agrees(name, options, by_index):
    expect_the_same_runs(name, options, num_steps=(9, 12), begin=4, by_index=by_index)


@pytest.mark.parametrize(("name", "options"), [row for row in SOLVERS if "algorithm_type" in row[1]])
def test_a_generator_for_each_video_draws_the_same(name, options):
    traces = []
    for scheduler in pair(name, **options):
        generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
        traces.append(loop(scheduler, 5, generator=generators))
    assert relative_error(*traces) <= 1e-5
    assert not torch.equal(traces[0][-1, 0], traces[0][-1, 1])


@pytest.mark.parametrize(("name", "options"), SOLVERS)
@pytest.mark.parametrize("more", [{}, FLOW], ids=["unit variance", "flow"])
def test_noise_is_added_alike(name, options, more):
    clean, noise = torch.randn(2, 3, 4, 2, 5, generator=torch.Generator().manual_seed(0))
    for held in ({}, {"begin": 2}, {"begin": 2, "steps": 2}):
        results = []
        for scheduler in pair(name, **options, **more):
            scheduler.set_timesteps(10)
            timesteps = scheduler.timesteps[[0, 4, 9]]
            if held:
                scheduler.set_begin_index(held["begin"])
            for timestep in scheduler.timesteps[2 : 2 + held.get("steps", 0)]:
                scheduler.step(noise, timestep, clean)
            results.append(scheduler.add_noise(clean, noise, timesteps))
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"])
def test_chosen_timesteps_agree(name):
    expect_the_same_runs(name, {}, num_steps=(None,), timesteps=[999, 700, 650, 300, 120, 3])


def test_given_noise_is_used_instead_of_drawn_noise():
    latents, prediction, noise = torch.randn(3, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    results = []
    for scheduler in pair("DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++"):
        scheduler.set_timesteps(5)
        results.append(scheduler.step(prediction, scheduler.timesteps[0], latents, variance_noise=noise).prev_sample)
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


def test_flows_with_a_shift_of_the_run_agree():
    options = {**FLOW, "use_dynamic_shifting": True}
    for name in ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"):
        expect_the_same_runs(name, options, num_steps=(6,), mu=1.1)
    for kind in ("exponential", "linear"):
        expect_the_same_runs("UniPCMultistepScheduler", {**options, "time_shift_type": kind}, num_steps=(6,), mu=1.1)
    expect_the_same_runs("UniPCMultistepScheduler", FLOW, num_steps=(None,), sigmas=np.array([1.0, 0.8, 0.5, 0.1]))


def test_a_learned_variance_is_left_out():
    options = {"variance_type": "learned_range"}
    expect_the_same_runs("DPMSolverMultistepScheduler", options, num_steps=(4,), channels=2)


def test_another_solver_may_be_the_predictor():
    predictors = pair("DPMSolverMultistepScheduler", solver_order=1)
    schedulers = [
        library.UniPCMultistepScheduler(solver_p=predictor)
        for library, predictor in zip((filmstrip.schedulers, diffusers), predictors, strict=True)
    ]
    assert relative_error(*(loop(scheduler, 6) for scheduler in schedulers)) <= 1e-5


@pytest.mark.parametrize(("name", "options"), SOLVERS)
def test_a_run_in_bfloat16_is_no_worse_than_the_reference(name, options):
    def trace(scheduler, dtype):
        generator = torch.Generator().manual_seed(0)
        noise = iter(torch.randn(9, 1, 4, 3, 8, 8, generator=generator))
        scheduler.set_timesteps(8)
        latents = next(noise).bfloat16().to(dtype)
        for timestep in scheduler.timesteps:
            prediction = next(noise).bfloat16().to(dtype)
            more = {"generator": torch.Generator().manual_seed(1)} if "algorithm_type" in options else {}
            latents = scheduler.step(prediction, timestep, latents, return_dict=False, **more)[0]
        return latents

    ours, theirs = pair(name, **options)
    exact = trace(ours, torch.float32)
    mine, reference = (trace(scheduler, torch.bfloat16) for scheduler in (ours, theirs))
    assert mine.dtype == reference.dtype == torch.bfloat16
    assert relative_error(mine, exact) <= 1.05 * relative_error(reference, exact)
