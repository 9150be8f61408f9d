"""EDM's solvers, TCD, SA-Solver and Heun's method for flows against the reference, over grids of their options."""

import functools
import inspect

import pytest
import torch

from filmstrip.schedulers import SASolverScheduler
from tests.parity.references import relative_error
from tests.parity.sampling import (
    BETAS,
    FLOW,
    RESPACINGS,
    SPACINGS,
    cases,
    expect_the_same_runs,
    grid,
    loop,
    pair,
    quiet_reference,
)

KINDS = [{"prediction_type": kind} for kind in ("epsilon", "sample", "v_prediction")]
LEVELS = [
    {},
    {"sigma_min": 0.02, "sigma_max": 20.0, "sigma_data": 1.0, "rho": 5.0},
    {"sigma_schedule": "exponential", "num_train_timesteps": 300},
]
EDM = grid(LEVELS, KINDS[::2], [{}, {"final_sigmas_type": "sigma_min"}])
ORDERS = grid(
    [{"solver_order": order} for order in (1, 2, 3)],
    [{}, {"solver_type": "heun"}, {"lower_order_final": False}, {"euler_at_final": True}],
)
SDE = {"algorithm_type": "sde-dpmsolver++"}
BOUNDED = {"thresholding": True, "sample_max_value": 1.5}
EDM_DPM = EDM + ORDERS + [SDE, SDE | {"solver_type": "heun"}, SDE | {"final_sigmas_type": "sigma_min"}, BOUNDED]
NO_SIGNAL = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
TCD = KINDS + BETAS + [NO_SIGNAL, {"original_inference_steps": 100}, {"set_alpha_to_one": False}, BOUNDED]
SA = [
    *KINDS,
    {"algorithm_type": "noise_prediction"},
    *grid(SPACINGS, RESPACINGS),
    *grid(BETAS, [{"use_karras_sigmas": True}, {"lambda_min_clipped": -5.1}, {"lower_order_final": False}]),
    BOUNDED,
]
TAUS = {"ODE": lambda timestep: 0.0, "SDE": lambda timestep: 1.0, "falling": lambda timestep: timestep / 1000}
HEUN = [{}, {"shift": 3.0}, {"shift": 0.5, "num_train_timesteps": 500}]
CHURN = {"s_churn": 4.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.01}


def edm_steps(options):
    """One step alone of an exponential schedule begins at the lowest level there, or leads nowhere."""
    differs = options.get("sigma_schedule") == "exponential" or options.get("final_sigmas_type") == "sigma_min"
    return (2, 7, 20) if differs else (1, 2, 7, 20)


@pytest.mark.parametrize(("name", "options"), cases({"EDMEulerScheduler": EDM}))
def test_eulers_method_with_preconditioning_agrees(name, options):
    expect_the_same_runs(name, options, num_steps=edm_steps(options), rounding=3e-6)


@pytest.mark.parametrize(("name", "options"), cases({"EDMDPMSolverMultistepScheduler": EDM_DPM}))
def test_dpm_solver_with_preconditioning_agrees(name, options):
    expect_the_same_runs(name, options, num_steps=edm_steps(options), rounding=3e-6)


@pytest.mark.parametrize(("name", "options"), cases({"TCDScheduler": TCD, "SASolverScheduler": SA}))
def test_tables_and_whole_runs_agree(name, options):
    expect_the_same_runs(name, options, by_index=True)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("algorithm", ["data_prediction", "noise_prediction"])
def test_sa_solver_is_as_stochastic_as_the_reference(tau, algorithm):
    expect_the_same_runs("SASolverScheduler", {"tau_func": TAUS[tau], "algorithm_type": algorithm})


@pytest.mark.parametrize("predictor_order", [1, 2, 3, 4])
@pytest.mark.parametrize("corrector_order", [1, 2, 3, 4])
@pytest.mark.parametrize("algorithm", ["data_prediction", "noise_prediction"])
def test_sa_solver_of_all_orders_agrees_with_the_reference_in_float64(predictor_order, corrector_order, algorithm):
    for more in (*KINDS, {"use_exponential_sigmas": True, "lower_order_final": False}):
        options = {"predictor_order": predictor_order, "corrector_order": corrector_order, "algorithm_type": algorithm}
        ours, theirs = pair("SASolverScheduler", **options, **more)
        set_timesteps = theirs.set_timesteps

        def widely(theirs=theirs, set_timesteps=set_timesteps, **given):
            set_timesteps(**given)
            theirs.sigmas = theirs.sigmas.double()  # in float32, its weights of higher orders cancel

        theirs.set_timesteps = widely
        for steps in (1, 2, 3, 7, 20):
            traces = [loop(one, steps, dtype=torch.float64, by_index=True) for one in (ours, theirs)]
            assert relative_error(*traces) <= 1e-9, steps


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_sa_solver_of_a_flow_agrees_up_to_the_last_step(shift):
    for steps in (2, 7, 20):  # the reference's stays where it is
        ours, theirs = pair("SASolverScheduler", **FLOW, flow_shift=shift, predictor_order=3, corrector_order=3)
        mine, reference = (loop(one, steps, by_index=True) for one in (ours, theirs))
        assert relative_error(mine[:-1], reference[:-1]) <= 1e-4
        torch.testing.assert_close(ours.sigmas[:-1], theirs.sigmas[:-1], rtol=1e-6, atol=1e-9)
        assert ours.sigmas[-1] == 0 < theirs.sigmas[-1]


def flow_loop(scheduler, steps, begin=None, seeds=(0,), **churn):
    scheduler.set_timesteps(steps)
    if begin is not None:
        scheduler.set_begin_index(begin)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    latents, trace = torch.randn(len(seeds), 2, 3, 4, generator=torch.Generator().manual_seed(1)), []
    for timestep in scheduler.timesteps[begin or 0 :]:
        prediction = torch.sin(0.7 * latents) + timestep / 1000
        latents = scheduler.step(prediction, timestep, latents, generator=generators, return_dict=False, **churn)[0]
        trace.append(latents)
    return torch.stack(trace)


@pytest.mark.parametrize("options", HEUN)
@pytest.mark.parametrize("churn", [{}, CHURN], ids=["", "churned"])
def test_heuns_method_for_flows_agrees(options, churn):
    for steps in (1, 2, 7, 20):
        ours, theirs = pair("FlowMatchHeunDiscreteScheduler", **options)
        # The reference divides a difference by the lowest level, 0.001.
        assert relative_error(*(flow_loop(one, steps, seeds=(3, 4), **churn) for one in (ours, theirs))) <= 1e-4
        torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=1e-6, atol=1e-4)
        torch.testing.assert_close(ours.sigmas, theirs.sigmas, rtol=1e-6, atol=1e-9)
        assert (ours.num_inference_steps, ours.order) == (theirs.num_inference_steps, theirs.order) == (steps, 2)


def test_heuns_method_for_flows_begun_in_the_middle_agrees():
    results = [flow_loop(one, 8, begin=6) for one in pair("FlowMatchHeunDiscreteScheduler", shift=2.0)]
    assert relative_error(*results) <= 1e-5


def test_heuns_method_for_flows_adds_noise_alike():
    clean, noise = torch.randn(2, 1, 4, 2, 5, generator=torch.Generator().manual_seed(0))
    for begin in (0, 4):
        results = []
        for scheduler in pair("FlowMatchHeunDiscreteScheduler", shift=3.0):
            scheduler.set_timesteps(6)
            scheduler.set_begin_index(begin)
            results.append(scheduler.scale_noise(clean, scheduler.timesteps[begin : begin + 1], noise))
        torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.9, 1.0])
def test_the_share_of_fresh_noise_of_tcd_agrees(eta):
    for steps in (1, 2, 5, 20):
        traces = []
        for scheduler in pair("TCDScheduler"):
            step = functools.partial(scheduler.step, eta=eta)
            step.__signature__ = inspect.signature(scheduler.step)
            scheduler.step = step
            traces.append(loop(scheduler, steps))
        assert relative_error(*traces) <= 1e-5


def test_timesteps_before_others_of_tcd_agree():
    for scheduler in (schedulers := pair("TCDScheduler")):
        scheduler.set_timesteps(timesteps=[100, 87, 50, 1, 0])
    ours, theirs = ([one.previous_timestep(timestep) for timestep in one.timesteps] for one in schedulers)
    assert ours == theirs


def test_chosen_timesteps_of_tcd_agree():
    with quiet_reference():
        expect_the_same_runs("TCDScheduler", {}, num_steps=(None,), timesteps=[999, 699, 259, 19])
        for more in ({"original_inference_steps": 20}, {"strength": 0.6}):
            expect_the_same_runs("TCDScheduler", {}, num_steps=(4, 5), **more)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_churned_steps_with_preconditioning_agree(prediction_type):
    traces = []
    for scheduler in pair("EDMEulerScheduler", prediction_type=prediction_type):
        step = functools.partial(scheduler.step, **CHURN)
        step.__signature__ = inspect.signature(scheduler.step)
        scheduler.step = step
        traces.append(loop(scheduler, 8, generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)]))
    assert relative_error(*traces) <= 1e-5


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_preconditioning_agrees(name):
    latents, prediction = torch.randn(2, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    for sigma in (0.01, 0.5, 70.0):
        results = []
        for scheduler in pair(name, sigma_data=0.7):
            given = (
                scheduler.precondition_inputs(latents, sigma),
                scheduler.precondition_outputs(latents, prediction, sigma),
            )
            results.append(torch.cat([*given, scheduler.precondition_noise(sigma).expand(1, 4, 8)]))
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
        assert pair(name)[0].precondition_noise(sigma).shape == pair(name)[1].precondition_noise(sigma).shape


def test_clean_latents_of_ones_own_are_stepped_towards():
    latents, clean = torch.randn(2, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    results = []
    for scheduler in pair("EDMEulerScheduler"):
        scheduler.set_timesteps(5)
        scheduler.scale_model_input(latents, scheduler.timesteps[0])
        results.append(scheduler.step(latents, scheduler.timesteps[0], latents, pred_original_sample=clean).prev_sample)
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


STOCHASTIC = [
    ("EDMDPMSolverMultistepScheduler", SDE),
    ("TCDScheduler", {}),
    ("SASolverScheduler", {}),
    ("SASolverScheduler", {"algorithm_type": "noise_prediction"}),
]
ALL = [*STOCHASTIC, ("EDMDPMSolverMultistepScheduler", {"solver_order": 3}), ("EDMEulerScheduler", {})]


@pytest.mark.parametrize(("name", "options"), STOCHASTIC)
def test_a_generator_for_each_video_draws_the_same(name, options):
    traces = []
    for scheduler in pair(name, **options):
        traces.append(loop(scheduler, 5, generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)]))
    assert relative_error(*traces) <= 1e-5
    assert not torch.equal(traces[0][-1, 0], traces[0][-1, 1])


@pytest.mark.parametrize("by_index", [False, True])
@pytest.mark.parametrize(("name", "options"), ALL)
def test_starting_in_the_middle_agrees(name, options, by_index):
    expect_the_same_runs(name, options, num_steps=(9, 12), begin=4, by_index=by_index, rounding=3e-6)


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_noise_is_added_alike_with_preconditioning(name):
    clean, noise = torch.randn(2, 3, 4, 2, 5, generator=torch.Generator().manual_seed(0))
    for begin in (None, 2):
        results = []
        for scheduler in pair(name):
            scheduler.set_timesteps(10)
            if begin is not None:
                scheduler.set_begin_index(begin)
            results.append(scheduler.add_noise(clean, noise, scheduler.timesteps[[0, 4, 9]]))
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["TCDScheduler", "SASolverScheduler"])
def test_noise_is_added_alike(name):
    clean, noise = torch.randn(2, 3, 4, 2, 5, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([999, 500, 0])
    results = [scheduler.add_noise(clean, noise, timesteps) for scheduler in pair(name)]
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
    for scheduler in pair(name):
        scheduler.set_timesteps(7)
        results.append(scheduler.add_noise(clean, noise, torch.tensor([998, 345, 12])))  # of another schedule
    torch.testing.assert_close(*results[2:], rtol=1e-5, atol=1e-6)


def test_what_the_reference_can_not_do_works():
    assert torch.isfinite(loop(SASolverScheduler(algorithm_type="noise_prediction", **BOUNDED), 6)).all()
    assert torch.isfinite(loop(SASolverScheduler(variance_type="learned"), 6, channels=2)).all()
    third = pair("EDMDPMSolverMultistepScheduler", solver_order=3, **SDE)[0]
    assert torch.isfinite(loop(third, 6)).all()
