"""Flow matching by solvers that know diffusion too: what they make of its configs, and what is refused."""

import inspect
import itertools

import numpy as np
import pytest
import torch

from filmstrip.schedulers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
    calculate_shift,
)
from filmstrip.schedulers.flows import check_solver, mu_for, solvers_for, started

FLOWS, DIFFUSIONS = solvers_for(flow=True), solvers_for(flow=False)
OTHERS = {name: kind for name, kind in FLOWS.items() if not name.startswith("FlowMatch")}
CONFIGS = {
    "defaults": {},
    "shifted": {"shift": 3.0},
    "dynamic": {"use_dynamic_shifting": True, "base_shift": 0.95, "max_shift": 2.05, "base_image_seq_len": 1024},
    "terminal": {"shift": 2.0, "shift_terminal": 0.1},
    "linear": {"use_dynamic_shifting": True, "time_shift_type": "linear"},
    "respaced": {"shift": 2.0, "use_karras_sigmas": True},
    "few timesteps": {"num_train_timesteps": 500},
}


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_a_config_of_flow_matching_makes_a_flow_of_the_same_levels(name, from_file, options, tmp_path):
    flow = FlowMatchEulerDiscreteScheduler(**options)
    flow.save_pretrained(tmp_path)
    config = FlowMatchEulerDiscreteScheduler.load_config(tmp_path) if from_file else flow.config
    solver = OTHERS[name].from_config(config)
    assert solver.is_flow and solver.predicts == "flow_prediction"
    assert mu_for(solver, 3000) == mu_for(flow, 3000)
    given = {"sigmas": np.linspace(1, 1 / 7, 7)}
    if options.get("use_dynamic_shifting"):
        given["mu"] = mu_for(flow, 3000)
        line = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15} | options
        names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        assert given["mu"] == calculate_shift(3000, *(line[name] for name in names))
    torch.testing.assert_close(solver.start(**given).sigmas, flow.start(**given).sigmas, rtol=0, atol=2e-6)
    del given["sigmas"]
    given["timesteps"] = [len(flow) * share for share in (1.0, 0.4321, 0.05)]
    ours, theirs = solver.start(**given), flow.start(**given)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas, rtol=0, atol=2e-6)
    torch.testing.assert_close(ours.timesteps, theirs.timesteps)
    check_solver(solver, flow=True)


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("given", [{"num_inference_steps": 5}, {"sigmas": [1.0, 0.6, 0.2]}, {"timesteps": [400, 30]}])
def test_heuns_method_follows_the_levels_of_eulers(options, given):
    euler = FlowMatchEulerDiscreteScheduler(**options)
    heun = FlowMatchHeunDiscreteScheduler.from_config(euler.config)
    mu = {"mu": 0.8} if options.get("use_dynamic_shifting") else {}
    ours, theirs = heun.start(**given, **mu), euler.start(**given, **mu)
    assert torch.equal(ours.sigmas[::2][:-1], theirs.sigmas[:-2]) and torch.equal(ours.timesteps[::2], theirs.timesteps)
    assert [*ours.begins] == [2 * step for step in range(len(theirs.timesteps))]
    assert FlowMatchEulerDiscreteScheduler.from_config(heun.config).config == euler.config
    check_solver(heun, flow=True)


def test_solvers_with_and_without_preconditioning_do_not_take_each_others_place():
    diffusion = DDIMScheduler(beta_schedule="scaled_linear")
    for kind in (EDMEulerScheduler, EDMDPMSolverMultistepScheduler):
        check_solver(kind(), flow=False)
        with pytest.raises(ValueError, match="knows no flows"):
            check_solver(kind(), flow=True)
        swapped = kind.from_config(diffusion.config)
        with pytest.raises(ValueError, match=r"preconditioning of EDM, and this one has none; use DDIMScheduler"):
            check_solver(swapped, flow=False)
        check_solver(DDIMScheduler.from_config(swapped.config), flow=False)
        with pytest.raises(ValueError, match="use EDMDPMSolverMultistepScheduler, EDMEulerScheduler"):
            check_solver(EulerDiscreteScheduler.from_config(kind().config), flow=False)
        check_solver(EDMEulerScheduler.from_config(kind().config), flow=False)


@pytest.mark.parametrize("names", itertools.product(OTHERS, DIFFUSIONS))
def test_a_flow_stays_one_through_any_other_solver_and_back(names):
    flow = FlowMatchEulerDiscreteScheduler(shift=2.5, use_dynamic_shifting=True, max_shift=2.05)
    for first in (flow, FlowMatchEulerDiscreteScheduler()):
        one = OTHERS[names[0]].from_config(first.config)
        between = DIFFUSIONS[names[1]].from_config(one.config)
        again = OTHERS[names[0]].from_config(between.config)
        assert again.config == one.config and mu_for(again, 99) == mu_for(first, 99)
        assert FlowMatchEulerDiscreteScheduler.from_config(between.config).config == first.config
        direct = OTHERS[names[0]].from_config(DIFFUSIONS[names[1]].from_config(first.config).config)
        assert direct.is_flow and direct.config.flow_shift == first.config.shift


def test_a_flow_of_a_solver_is_a_flow_of_eulers_method():
    solver = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=4.0)
    assert FlowMatchEulerDiscreteScheduler.from_config(solver.config).shift == 4.0
    other = DPMSolverMultistepScheduler.from_config(FlowMatchEulerDiscreteScheduler(shift=2.0).config, flow_shift=5.0)
    assert other.config.flow_shift == 5.0
    assert FlowMatchEulerDiscreteScheduler.from_config(other.config).shift == 5.0


@pytest.mark.parametrize("name", OTHERS)
def test_what_was_chosen_goes_over_what_a_config_means(name):
    solver = OTHERS[name].from_config(FlowMatchEulerDiscreteScheduler().config, use_flow_sigmas=False)
    assert not solver.is_flow
    with pytest.raises(ValueError, match="has no invert_sigmas"):
        OTHERS[name].from_config(FlowMatchEulerDiscreteScheduler(invert_sigmas=True).config)


def test_a_solver_that_does_not_fit_the_network_is_refused_with_those_that_do():
    flow = FlowMatchEulerDiscreteScheduler()
    for name, kind in DIFFUSIONS.items():
        scheduler = kind()
        check_solver(scheduler, flow=False)
        with pytest.raises(ValueError, match=f"^{name} .*{', '.join(FLOWS)}.$"):
            check_solver(scheduler, flow=True)
    for name, kind in FLOWS.items():
        scheduler = kind.from_config(flow.config)
        check_solver(scheduler, flow=True)
        with pytest.raises(ValueError, match=f"^{name} follows a flow.*{', '.join(DIFFUSIONS)}.$"):
            check_solver(scheduler, flow=False)
    with pytest.raises(ValueError, match="must be 'flow_prediction' for this network, got 'epsilon'"):
        check_solver(UniPCMultistepScheduler(use_flow_sigmas=True), flow=True)
    with pytest.raises(ValueError, match="got 'flow_prediction'"):
        check_solver(UniPCMultistepScheduler(prediction_type="flow_prediction"), flow=False)


@pytest.mark.parametrize("name", FLOWS | DIFFUSIONS)
@pytest.mark.parametrize("given", [{"timesteps": [900, 500, 1]}, {"sigmas": [0.9, 0.5, 0.1]}, {"mu": 1.0}])
@pytest.mark.parametrize("flow", [False, True])
def test_what_is_asked_of_a_schedule_is_obeyed_or_refused(name, given, flow):
    kind = (FLOWS | DIFFUSIONS)[name]
    if flow and name not in FLOWS:
        pytest.skip("knows no flows")
    scheduler = kind.from_config(FlowMatchEulerDiscreteScheduler().config if flow else EulerDiscreteScheduler().config)
    (key, value), steps = next(iter(given.items())), {} if "mu" not in given else {"num_inference_steps": 3}
    try:
        run = started(scheduler, **given, **steps)
    except ValueError as error:
        assert key in str(error)
        return
    shown = run.timesteps[:: run.order] if key == "timesteps" else run.sigmas[:: run.order][: len(value)]
    torch.testing.assert_close(shown.double(), torch.tensor(value).double(), rtol=0, atol=1e-5)


def test_what_a_solver_does_not_take_is_refused_with_those_that_do():
    with pytest.raises(
        ValueError, match="eta has no effect with EulerDiscreteScheduler; drop it, or use DDIMScheduler"
    ):
        started(EulerDiscreteScheduler(), num_inference_steps=3, eta=0.5)
    assert "eta" in inspect.signature(DDIMScheduler.start).parameters
