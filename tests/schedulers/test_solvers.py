"""Solvers over whole-number timesteps: known answers, runs of their own, and the layer for Diffusers' loops."""

import inspect
import math

import pytest
import torch

from filmstrip.schedulers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
SOLVERS = {
    "DDIM": (DDIMScheduler, {"clip_sample": False}),
    "DDPM": (DDPMScheduler, {"clip_sample": False}),
    "DEIS": (DEISMultistepScheduler, {"solver_order": 3}),
    "DPM": (DPMSolverMultistepScheduler, {"solver_order": 3}),
    "DPM of the noise": (
        DPMSolverMultistepScheduler,
        {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
    ),
    "DPM with noise": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "DPM of a flow": (DPMSolverMultistepScheduler, FLOW),
    "DPM within a step": (DPMSolverSinglestepScheduler, {"solver_order": 3}),
    "LCM": (LCMScheduler, {}),
    "PNDM": (PNDMScheduler, {}),
    "PNDM at once": (PNDMScheduler, {"skip_prk_steps": True}),
    "UniPC": (UniPCMultistepScheduler, {"solver_order": 3}),
    "UniPC of the noise": (UniPCMultistepScheduler, {"predict_x0": False, "final_sigmas_type": "sigma_min"}),
    "UniPC of a flow": (UniPCMultistepScheduler, FLOW),
}
STOCHASTIC = {"DDPM", "DPM with noise", "LCM"}
ENDING_CLEAN = {
    "DDIM",
    "DDPM",
    "DPM",
    "DPM with noise",
    "DPM of a flow",
    "DPM within a step",
    "UniPC",
    "UniPC of a flow",
}


def solver(name, **more):
    kind, options = SOLVERS[name]
    return kind(**options | more)


def start(scheduler, num_steps, seed=0):
    more = {"generator": torch.Generator().manual_seed(seed)}
    return scheduler.start(num_steps, **(more if "generator" in inspect.signature(scheduler.start).parameters else {}))


def finish(run, latents, network=torch.sin, begin=0):
    for step in range(begin, len(run.timesteps)):
        latents = run.step(network(latents), step, latents)
    return latents


@pytest.mark.parametrize("name", sorted(ENDING_CLEAN))
@pytest.mark.parametrize("num_steps", [1, 2, 5, 20])
def test_a_network_that_knows_the_clean_latents_ends_there(name, num_steps):
    clean = torch.randn(2, 3, dtype=torch.float64)
    run = start(solver(name, prediction_type="sample"), num_steps)
    result = finish(run, torch.randn(2, 3).double(), lambda latents: clean)
    # The ancestral solver's last noise has a variance of 1e-20.
    torch.testing.assert_close(result, clean, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", sorted(SOLVERS.keys() - STOCHASTIC - {"PNDM", "PNDM at once", "DPM within a step"}))
@pytest.mark.parametrize("begin", [0, 3])
def test_every_step_keeps_the_noise_that_the_network_knows(name, begin):
    clean, noise = torch.randn(2, 2, 3, dtype=torch.float64)
    scheduler = solver(name)
    prediction = noise - clean if scheduler.config.prediction_type == "flow_prediction" else noise
    run = start(scheduler, 7)
    latents = run.add_noise(clean, noise, begin)
    for step in range(begin, 6):
        latents = run.step(prediction, step, latents)
        torch.testing.assert_close(latents, run.add_noise(clean, noise, step + 1))


@pytest.mark.parametrize("name", ["PNDM", "PNDM at once", "DPM within a step"])
def test_whole_blocks_keep_the_noise_that_the_network_knows(name):
    clean, noise = torch.randn(2, 2, 3, dtype=torch.float64)
    run = start(solver(name), 6)
    latents = finish(run, run.add_noise(clean, noise, 0), lambda latents: noise)
    level = run.levels[-1] if name == "DPM within a step" else run.transitions[-1].next_level
    torch.testing.assert_close(latents, level.alpha * clean + level.sigma * noise)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(
    "name", ["DEIS", "DPM", "DPM of the noise", "DPM within a step", "UniPC", "UniPC of the noise"]
)
def test_errors_fall_with_the_order_of_the_solver(name, order):
    # For latents of which the clean ones have variance 1/4, the best network and the flow it makes are known.
    def width(level):
        return math.sqrt(0.25 * level.alpha**2 + level.sigma**2)

    def error(num_steps):
        ends = {} if name == "DEIS" else {"final_sigmas_type": "sigma_min"}
        run = start(
            solver(name, solver_order=order, lower_order_final=False, use_exponential_sigmas=True, **ends), num_steps
        )
        latents = torch.full((1, 1), width(run.levels[0]), dtype=torch.float64)
        for step, level in enumerate(run.levels[:-1]):
            latents = run.step(latents * level.sigma / width(level) ** 2, step, latents)
        return abs(float(latents) - width(run.levels[-1]))

    # UniPC's corrector raises its order by one. DPM's authors count the curvature over several steps by half, which
    # leaves the second order; the reference and its results do so too.
    expected = order + name.startswith("UniPC")
    if name in ("DPM", "DPM of the noise"):
        expected = min(order, 2)
    assert error(60) / error(120) > 2 ** (expected - 0.4)


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_two_interleaved_runs_equal_two_in_turn(name):
    scheduler, starts = solver(name), torch.randn(2, 1, 4, 8)
    in_turn = [finish(start(scheduler, steps, steps), latents) for steps, latents in zip((6, 9), starts, strict=True)]
    interleaved, runs = list(starts), [start(scheduler, steps, steps) for steps in (6, 9)]
    for step in range(max(len(run.timesteps) for run in runs)):
        for index, run in enumerate(runs):
            if step < len(run.timesteps):
                interleaved[index] = run.step(torch.sin(interleaved[index]), step, interleaved[index])
    assert all(torch.equal(one, other) for one, other in zip(in_turn, interleaved, strict=True))
    assert not torch.equal(*in_turn)


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_the_layer_equals_the_run(name):
    scheduler, latents = solver(name), torch.randn(1, 4, 8)
    expected = finish(start(scheduler, 7, 3), latents)
    scheduler.set_timesteps(7, device="cpu")
    generator = torch.Generator().manual_seed(3)
    more = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    assert scheduler.init_noise_sigma == 1 and scheduler.order == 1
    for timestep in scheduler.timesteps:
        prediction = torch.sin(scheduler.scale_model_input(latents, timestep))
        latents = scheduler.step(prediction, timestep, latents, **more).prev_sample
    torch.testing.assert_close(latents, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", sorted(STOCHASTIC))
def test_the_generator_decides_the_noise(name):
    latents = torch.randn(2, 4, 8)
    results = [finish(start(solver(name), 4, seed), latents) for seed in (1, 1, 2)]
    assert torch.equal(*results[:2])
    assert not torch.equal(*results[1:])


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_latents_and_predictions_are_left_as_they_were(name):
    run, latents, prediction = start(solver(name), 5), torch.ones(1, 4, 8), torch.full((1, 4, 8), 0.5)
    for step in range(4):
        stepped = run.step(prediction, step, latents)
        assert not torch.equal(stepped, latents)
        assert bool((latents == 1).all()) and bool((prediction == 0.5).all())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("DPM", {"use_karras_sigmas": True, "use_lu_lambdas": True}, "only one spacing"),
        ("DPM", {"algorithm_type": "dpm"}, "algorithm_type must be one of"),
        ("DPM", {"algorithm_type": "dpmsolver"}, "can't end at no noise"),
        ("DPM", {"algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"}, "of order 1 or 2"),
        ("DPM", {"solver_type": "middle"}, "solver_type must be one of"),
        ("DPM", {"solver_order": 4}, "solver_order must be 1, 2 or 3, got 4"),
        ("DPM", {"final_sigmas_type": "one"}, "final_sigmas_type must be one of"),
        ("UniPC", {"solver_type": "bh3"}, "solver_type must be one of"),
        ("UniPC", {"predict_x0": False}, "can't end at no noise"),
        ("UniPC", {"shift_terminal": 0.1}, "set use_flow_sigmas=True"),
        ("UniPC", {"solver_order": 0}, "at least 1, got 0"),
        ("DEIS", {"solver_order": 4}, "1, 2 or 3, got 4"),
        ("PNDM", {"prediction_type": "sample"}, "prediction_type must be one of epsilon, v_prediction"),
    ],
)
def test_settings_that_can_not_work_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        solver(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "call", "message"),
    [
        ("DPM", {}, {"num_inference_steps": 3, "timesteps": [5, 3, 1]}, "takes one of"),
        ("DPM", {}, {"timesteps": [1, 3, 5]}, "must fall"),
        ("DPM", {}, {"timesteps": [999, 2.5]}, "whole numbers"),
        ("DPM", {}, {}, "number of steps is missing"),
        ("DPM", {}, {"num_inference_steps": 3, "mu": 1.0}, "use_dynamic_shifting"),
        ("DPM", {"use_karras_sigmas": True}, {"timesteps": [999, 3]}, "timesteps can't be chosen"),
        ("UniPC", {}, {"sigmas": [1.0, 0.5]}, "sigmas can be chosen only"),
        ("UniPC", {"use_flow_sigmas": True, "use_dynamic_shifting": True}, {"num_inference_steps": 3}, "needs mu"),
        ("DDPM", {}, {"num_inference_steps": 2, "timesteps": [9, 5]}, "got both"),
        ("LCM", {}, {"num_inference_steps": 60}, "at most 50"),
        ("LCM", {}, {"num_inference_steps": 4, "original_inference_steps": 2000}, "at most 1000"),
        ("PNDM", {}, {"num_inference_steps": 3}, "must be >= 4"),
    ],
)
def test_calls_that_can_not_work_are_refused(name, options, call, message):
    with pytest.raises(ValueError, match=message):
        solver(name, **options).set_timesteps(**call)


@pytest.mark.parametrize("name", sorted(SOLVERS.keys() - {"DDPM"}))
def test_a_step_before_any_timesteps_is_refused(name):
    with pytest.raises(ValueError, match="set_timesteps"):
        solver(name).step(torch.zeros(1, 4, 8), 999, torch.zeros(1, 4, 8))


def test_a_strength_that_leaves_no_timesteps_is_refused():
    with pytest.raises(ValueError, match="leaves none of 1 timesteps"):
        LCMScheduler().set_timesteps(timesteps=[747], strength=0.8)
