"""CogVideoX with every solver that can be swapped in gives the reference's frames."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

import filmstrip
from tests.parity.references import relative_error
from tests.parity.sampling import quiet_reference
from tests.parity.test_cogvideox_pipelines import TOLERANCE, clip, frames_of_both, pair

SOLVERS: list[tuple[str, dict[str, Any]]] = [
    ("DDIMScheduler", {}),
    ("DDIMScheduler", {"clip_sample": False, "timestep_spacing": "leading", "rescale_betas_zero_snr": False}),
    ("DDPMScheduler", {}),
    ("DEISMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("DPMSolverSinglestepScheduler", {}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("HeunDiscreteScheduler", {}),
    ("KDPM2AncestralDiscreteScheduler", {}),
    ("KDPM2DiscreteScheduler", {}),
    ("LCMScheduler", {}),
    ("LMSDiscreteScheduler", {}),
    ("PNDMScheduler", {"skip_prk_steps": True}),
    ("UniPCMultistepScheduler", {}),
]


def swapped(name: str, pipeline: str = "CogVideoXPipeline", **options: Any) -> tuple[Any, Any]:
    """Ours and the reference's pipeline with this solver, made of the published one's settings."""
    ours, reference = pair(pipeline, "5b")
    ours.scheduler = getattr(filmstrip, name).from_config(ours.scheduler.config, **options)
    reference.scheduler = getattr(diffusers, name).from_config(reference.scheduler.config, **options)
    assert ours.scheduler.config.prediction_type == "v_prediction"
    return ours, reference


@pytest.mark.parametrize(("name", "options"), SOLVERS, ids=str)
def test_a_solver_that_was_swapped_in_makes_the_same_video(name, options):
    with quiet_reference():
        both = swapped(name, **options)
        frames, expected = frames_of_both(*both, num_frames=9, num_inference_steps=5, negative_prompt="dull")
    assert torch.isfinite(expected).all()
    assert relative_error(frames, expected) < TOLERANCE


@pytest.mark.parametrize("name", ["DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_a_clip_is_changed_from_the_middle_of_the_schedule(name):
    with quiet_reference():
        both = swapped(name, "CogVideoXVideoToVideoPipeline")
        frames, expected = frames_of_both(*both, video=clip(9), num_inference_steps=5, strength=0.7)
    assert relative_error(frames, expected) < TOLERANCE
