"""Changing the scheduler by `from_config`: what one knows and another does not is not lost on the way."""

import inspect
import itertools
import json

import pytest
import torch

import filmstrip.models.cogvideox
import filmstrip.schedulers
from filmstrip.schedulers import Scheduler

NAMES = sorted(
    name
    for name in filmstrip.schedulers.__all__
    if name.endswith("Scheduler") and name != "Scheduler" and not name.startswith("FlowMatch")
)
CLASSES = {name: getattr(filmstrip.schedulers, name) for name in NAMES} | {
    name: getattr(filmstrip.models.cogvideox, name) for name in ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")
}
# For settings of every kind, a value that is not the default.
CHOSEN = {
    "algorithm_type": "sde-dpmsolver++",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "clip_sample_range": 2.0,
    "disable_corrector": [0],
    "dynamic_thresholding_ratio": 0.9,
    "euler_at_final": True,
    "final_sigmas_type": "sigma_min",
    "flow_shift": 2.0,
    "interpolation_type": "log_linear",
    "lambda_min_clipped": -5.1,
    "original_inference_steps": 25,
    "prediction_type": "v_prediction",
    "predictor_order": 3,
    "rescale_betas_zero_snr": True,
    "sigma_data": 1.0,
    "sigma_max": 50.0,
    "skip_prk_steps": True,
    "snr_shift_scale": 1.0,
    "solver_order": 3,
    "solver_type": "heun",
    "steps_offset": 1,
    "timestep_scaling": 5.0,
    "timestep_spacing": "trailing",
    "variance_type": "fixed_large",
}


def chosen_for(kind):
    names = inspect.signature(kind).parameters.keys() & CHOSEN.keys()
    options = {name: CHOSEN[name] for name in names}
    if "UniPC" in kind.__name__:
        options["solver_type"] = "bh1"
    if "DEIS" in kind.__name__:
        options |= {"solver_type": "logrho", "algorithm_type": "deis"}
    if "SASolver" in kind.__name__:
        options["algorithm_type"] = "noise_prediction"
    return options


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(CLASSES, 2)))
def test_there_and_back_all_settings_are_the_same(first, second, tmp_path):
    chosen = chosen_for(CLASSES[first])
    scheduler = CLASSES[first](**chosen)
    other = CLASSES[second].from_config(scheduler.config)
    shared = other.config.keys() & chosen.keys()
    assert all(other.config[name] == scheduler.config[name] for name in shared)
    assert CLASSES[first].from_config(other.config).config == scheduler.config
    other.save_pretrained(tmp_path)  # a file does not tell what was chosen from what the other class had by default
    loaded = CLASSES[first].from_pretrained(tmp_path)
    assert {name: loaded.config[name] for name in chosen} == chosen


@pytest.mark.parametrize("name", CLASSES)
def test_what_was_swapped_in_makes_a_run(name):
    first = CLASSES["CogVideoXDDIMScheduler"](**chosen_for(CLASSES["CogVideoXDDIMScheduler"]))
    scheduler = CLASSES[name].from_config(first.config)
    assert scheduler.config.prediction_type == "v_prediction"
    more = {"generator": torch.Generator().manual_seed(0)}
    run = scheduler.start(6, **(more if "generator" in inspect.signature(scheduler.start).parameters else {}))
    latents = torch.ones(1, 2, 4) * run.init_noise_sigma
    for step in range(len(run.timesteps)):
        latents = run.step(torch.sin(run.scale_input(latents, step)), step, latents)
    assert torch.isfinite(latents).all()


def test_every_default_of_a_class_is_its_own(tmp_path):
    ddim = filmstrip.schedulers.DDIMScheduler()
    euler = filmstrip.schedulers.EulerDiscreteScheduler.from_config(ddim.config)
    assert (ddim.config.timestep_spacing, euler.config.timestep_spacing) == ("leading", "linspace")
    trailing = filmstrip.schedulers.EulerDiscreteScheduler.from_config(euler.config, timestep_spacing="trailing")
    assert filmstrip.schedulers.LMSDiscreteScheduler.from_config(trailing.config).config.timestep_spacing == "trailing"
    deis = filmstrip.schedulers.DEISMultistepScheduler.from_config(ddim.config)
    unipc = filmstrip.schedulers.UniPCMultistepScheduler.from_config(deis.config)
    assert (deis.config.solver_type, unipc.config.solver_type) == ("logrho", "bh2")
    unipc.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / Scheduler.config_name).read_text())
    assert saved["_class_name"] == "UniPCMultistepScheduler"


def test_schedulers_tell_with_which_others_they_can_be_swapped():
    ddim = filmstrip.schedulers.DDIMScheduler()
    preconditioned = {"EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"}
    assert {kind.__name__ for kind in ddim.compatibles} == set(NAMES) - preconditioned
    assert CLASSES["CogVideoXDPMScheduler"]().compatibles == ddim.compatibles
    for name in ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", *preconditioned):
        kind = getattr(filmstrip.schedulers, name)
        assert kind().compatibles == [kind]


def test_settings_are_read_off_the_scheduler_with_a_warning():
    scheduler = filmstrip.schedulers.DDIMScheduler(beta_end=0.5)
    scheduler.register_to_config(note=5)
    with pytest.warns(FutureWarning, match="scheduler.config.beta_end"):
        assert scheduler.beta_end == 0.5
    with pytest.warns(FutureWarning):
        assert scheduler.note == 5
    with pytest.raises(AttributeError, match="'DDIMScheduler' object has no attribute 'beta'"):
        _ = scheduler.beta
