"""DDPM, PNDM and LCM against the reference implementation, over grids of their options."""

import pytest

from tests.parity.sampling import BETAS, SPACINGS, cases, expect_the_same_runs, grid

KINDS = [{"prediction_type": kind} for kind in ("epsilon", "sample", "v_prediction")]
CLIPS = [
    {"clip_sample": False},
    {"clip_sample": True, "clip_sample_range": 0.7},
    {"clip_sample": False, "thresholding": True, "sample_max_value": 1.5},
]
NO_SIGNAL = {"rescale_betas_zero_snr": True, "clip_sample": False, "prediction_type": "v_prediction"}

DDPM = (
    grid(SPACINGS, KINDS, CLIPS)
    + grid(BETAS, [{"variance_type": kind} for kind in ("fixed_small_log", "fixed_large")])
    + [{"beta_schedule": "sigmoid"}, {"beta_schedule": "laplace"}]
    + grid(SPACINGS, [NO_SIGNAL])
)
LCM = (
    grid(KINDS, CLIPS)
    + BETAS
    + [NO_SIGNAL, {"original_inference_steps": 100}, {"timestep_scaling": 3.0}, {"set_alpha_to_one": False}]
)
PNDM = grid(SPACINGS, KINDS[::2], [{}, {"set_alpha_to_one": True}, {"skip_prk_steps": True}]) + grid(
    BETAS, [{}, {"skip_prk_steps": True}]
)


@pytest.mark.parametrize(("name", "options"), cases({"DDPMScheduler": DDPM, "LCMScheduler": LCM}))
def test_tables_and_whole_runs_agree(name, options):
    expect_the_same_runs(name, options)


@pytest.mark.parametrize(("name", "options"), cases({"PNDMScheduler": PNDM}))
def test_pseudo_numerical_runs_agree(name, options):
    expect_the_same_runs(name, options, num_steps=(1, 2, 3, 7, 20) if options.get("skip_prk_steps") else (4, 5, 20))


def test_a_learned_range_of_variances_agrees():
    expect_the_same_runs("DDPMScheduler", {"variance_type": "learned_range"}, channels=2)
