"""DPM-Solver, UniPC and DEIS against the reference implementation, over grids of their options."""

import pytest

from tests.parity.sampling import BETAS, FLOW, RESPACINGS, SPACINGS, cases, expect_the_same_runs, grid

KINDS = [{"prediction_type": kind} for kind in ("epsilon", "sample", "v_prediction")]
PUBLISHED = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
FLOWS = [FLOW, {**FLOW, "flow_shift": 3.0}, {**FLOW, "flow_shift": 5.0, "solver_order": 3}]
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
    + FLOWS
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


def test_short_runs_agree_where_long_ones_have_no_stable_result():
    options = {"algorithm_type": "sde-dpmsolver++", "solver_order": 3, "solver_type": "heun"}
    expect_the_same_runs("DPMSolverSinglestepScheduler", options, num_steps=(1, 2, 3, 7))


@pytest.mark.parametrize("shift", [1.0, 4.0])
def test_a_flow_stretched_to_a_terminal_agrees_from_two_steps_on(shift):
    options = {**FLOW, "flow_shift": shift, "shift_terminal": 0.1}
    expect_the_same_runs("UniPCMultistepScheduler", options, num_steps=(2, 3, 8))
