"""A solver goes on in another process with what it remembered, bit for bit."""

import inspect
import json

import pytest
import torch

from filmstrip.randomness import NoiseState
from filmstrip.registry import PUBLIC, resolve_class
from filmstrip.resume.file import read, write
from filmstrip.schedulers import UniPCMultistepScheduler
from filmstrip.schedulers.runs import memory_of, remember

STEPS = 7
ALL = sorted(name for name in PUBLIC if name.endswith("Scheduler"))
SETTINGS = {
    "DDPMScheduler": [{}, {"variance_type": "learned_range"}],
    "DPMSolverMultistepScheduler": [
        {},
        {"solver_order": 3},
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
        {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
    ],
    "DPMSolverSinglestepScheduler": [{"solver_order": order} for order in (1, 2, 3)],
    "DEISMultistepScheduler": [{"solver_order": order} for order in (2, 3)],
    "FlowMatchEulerDiscreteScheduler": [{}, {"stochastic_sampling": True}],
    "HeunDiscreteScheduler": [{}, {"use_karras_sigmas": True}],
    "PNDMScheduler": [{}, {"skip_prk_steps": True}],
    "UniPCMultistepScheduler": [{}, {"solver_order": 3, "predict_x0": False, "final_sigmas_type": "sigma_min"}],
}
RUNS = [(name, options) for name in ALL for options in SETTINGS.get(name, [{}])]


def scheduler_of(name, options):
    kind = resolve_class("filmstrip", name)
    if name == "UniPCMultistepScheduler" and not options:  # a solver within the solver
        inner = resolve_class("filmstrip", "DPMSolverMultistepScheduler")()
        return UniPCMultistepScheduler(solver_p=inner)
    return kind(**options)


def steps_of(run, latents, generator, begin=0):
    for step in range(begin, len(run.timesteps)):
        prediction = torch.sin(3 * run.scale_input(latents, step))
        if isinstance(getattr(run, "variance_type", None), str) and run.variance_type.startswith("learned"):
            prediction = torch.cat([prediction, torch.cos(prediction)], dim=1)
        latents = run.step(prediction, step, latents, generator=generator)
        yield latents


@pytest.mark.parametrize(("name", "options"), RUNS, ids=[f"{name} {json.dumps(options)}" for name, options in RUNS])
def test_a_solver_goes_on_after_any_step(name, options, tmp_path):
    scheduler, generator = scheduler_of(name, options), torch.Generator().manual_seed(3)
    more = {"eta": 0.7} if "eta" in inspect.signature(scheduler.start).parameters else {}
    run = scheduler.start(STEPS, **more)
    latents = torch.randn(2, 2, 3, 4) * run.init_noise_sigma
    kept, whole = [], latents
    for whole in steps_of(run, latents, generator):
        kept.append((tmp_path / f"{len(kept)}", NoiseState.of(generator)))
        write(kept[-1][0], {"latents": whole, "memory": memory_of(run)})
    for begin, (path, noise) in enumerate(kept, 1):
        found, run = read(path), scheduler_of(name, options).start(STEPS, **more)
        remember(run, found["memory"])
        rest = [found["latents"], *steps_of(run, found["latents"], noise.generators(), begin)]
        assert torch.equal(rest[-1], whole), f"after step {begin}"


def test_what_is_taken_of_a_run_is_not_changed_by_its_later_steps():
    run = scheduler_of("UniPCMultistepScheduler", {}).start(STEPS)
    steps = steps_of(run, torch.randn(1, 2, 3, 4), None)
    next(steps)
    memory = memory_of(run)
    assert memory["begun"] and memory["predictor"]["history"], "the solver within remembers something, too"
    before = list(memory["begun"])
    next(steps)
    assert memory["begun"] == before
    assert run.begun[0][0] is not before[0][0]
