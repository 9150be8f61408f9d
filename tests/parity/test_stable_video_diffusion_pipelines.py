"""The pipeline of Stable Video Diffusion gives the reference's frames."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as reference_module
from PIL import Image
from transformers import CLIPImageProcessor

import filmstrip
from filmstrip.models.stable_video_diffusion.resizing import resized_for_clip
from tests import tiny
from tests.parity.references import randomise, relative_error, transplant

TOLERANCE = 1e-4
# As the checkpoints have it.
SCHEDULE: dict[str, Any] = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "sigma_max": 700.0,
    "sigma_min": 0.002,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "trained_betas": None,
    "use_karras_sigmas": True,
}


def pair(
    *, scheduler: str = "EulerDiscreteScheduler", schedule: dict[str, Any] | None = None, side: int = 224, **unet: Any
) -> tuple[Any, Any]:
    """A pipeline of ours and one of the reference's that share their weights."""
    settings = {**tiny.STABLE_VIDEO_DIFFUSION_UNET, **unet}
    network = randomise(diffusers.UNetSpatioTemporalConditionModel(**settings), spread=0.2)
    vae = randomise(diffusers.AutoencoderKLTemporalDecoder(**tiny.STABLE_VIDEO_DIFFUSION_AUTOENCODER), spread=0.1)
    # The reference counts on pictures of 224 pixels, unless it is given tensors.
    shared = {
        "image_encoder": randomise(tiny.clip_vision_encoder(side=side)),
        "feature_extractor": CLIPImageProcessor(),
    }
    schedule = SCHEDULE if schedule is None else schedule
    reference = diffusers.StableVideoDiffusionPipeline(
        unet=network, vae=vae, scheduler=getattr(diffusers, scheduler)(**schedule), **shared
    )
    reference.set_progress_bar_config(disable=True)
    ours = filmstrip.StableVideoDiffusionPipeline(
        unet=transplant(filmstrip.UNetSpatioTemporalConditionModel(**settings), network),
        vae=transplant(filmstrip.AutoencoderKLTemporalDecoder(**tiny.STABLE_VIDEO_DIFFUSION_AUTOENCODER), vae),
        scheduler=getattr(filmstrip, scheduler)(**schedule),
        **shared,
    )
    ours.set_progress_bar_config(disable=True)
    return ours, reference


def picture(seed: int = 0, width: int = 56, height: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def tensors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def frames_of_both(ours: Any, reference: Any, **call: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What both make of one call."""
    usual = {"height": 16, "width": 24, "num_inference_steps": 3, "output_type": "pt"}
    call = {"image": picture(), "num_frames": 4, **usual, **call}
    outputs = [
        pipeline(**{"generator": torch.Generator().manual_seed(7), **call}).frames for pipeline in (ours, reference)
    ]
    return outputs[0], outputs[1]


CALLS: dict[str, dict[str, Any]] = {
    "usual": {},
    "unguided": {"max_guidance_scale": 1.0},
    "stronger": {"min_guidance_scale": 2.0, "max_guidance_scale": 6.0},
    "falling guidance": {"min_guidance_scale": 5.0, "max_guidance_scale": 1.5},
    "numbers": {"fps": 24, "motion_bucket_id": 3, "noise_aug_strength": 0.7},
    "no noise on the picture": {"noise_aug_strength": 0.0},
    "14 frames": {"num_frames": 14},
    "25 frames": {"num_frames": 25},
    "one frame": {"num_frames": 1, "min_guidance_scale": 2.0},  # at 1 the reference fails
    "another size": {"height": 8, "width": 40},
    "chunks": {"decode_chunk_size": 3, "num_frames": 7},
    "frame by frame": {"decode_chunk_size": 1},
    "sigmas": {"sigmas": [80.0, 6.0, 0.5]},
    "latents": {"output_type": "latent"},
    "given latents": {"latents": tensors(1, 4, 4, 8, 12) - 0.5},
    "two videos": {"num_videos_per_prompt": 2},
    "two pictures": {"image": [picture(0), picture(1)]},
    "two pictures, two generators": {
        "image": [picture(0), picture(1)],
        "generator": [torch.Generator(), torch.Generator()],
    },
    "array": {"output_type": "np"},
    "large picture": {"image": picture(2, 500, 731)},
    "grey picture": {"image": picture().convert("L").convert("RGB")},
}


@pytest.mark.parametrize("name", CALLS)
def test_image_to_video_agrees(name):
    call = CALLS[name]
    if "generator" in call:
        for generator in call["generator"]:
            generator.manual_seed(3)
    found = []
    for pipeline in pair():
        if "generator" in call:
            for seed, generator in enumerate(call["generator"]):
                generator.manual_seed(seed)
        usual = {"height": 16, "width": 24, "num_inference_steps": 3, "output_type": "pt", "num_frames": 4}
        given = {"image": picture(), "generator": torch.Generator().manual_seed(7), **usual, **call}
        found.append(torch.as_tensor(pipeline(**given).frames))
    assert relative_error(*found) < TOLERANCE


@pytest.mark.parametrize(
    "schedule",
    [
        {},
        {**SCHEDULE, "use_karras_sigmas": False},
        {**SCHEDULE, "timestep_spacing": "trailing", "sigma_max": 80.0},
        {"prediction_type": "v_prediction"},
    ],
)
def test_other_schedules_agree(schedule):
    assert relative_error(*frames_of_both(*pair(schedule=schedule))) < TOLERANCE


@pytest.mark.parametrize("scheduler", ["HeunDiscreteScheduler", "LMSDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_other_solvers_agree(scheduler):
    schedule = {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}
    assert relative_error(*frames_of_both(*pair(scheduler=scheduler, schedule=schedule))) < TOLERANCE


@pytest.mark.parametrize("count", [1, 2])
def test_tensors_agree(count):
    ours, reference = pair(side=32)
    pictures = tensors(count, 3, 32, 32)
    assert relative_error(*frames_of_both(ours, reference, image=pictures, height=32, width=32)) < TOLERANCE


def test_latents_of_every_step_agree():
    seen: list[list[torch.Tensor]] = []
    for pipeline in pair():
        latents: list[torch.Tensor] = []

        def keep(pipe, step, timestep, tensors, latents=latents):
            latents.append(tensors["latents"].clone())
            return {"latents": tensors["latents"] * 0.9} if step == 1 else {}

        frames_of_both(pipeline, pipeline, num_inference_steps=5, callback_on_step_end=keep)
        seen.append(latents[:5])
    for ours, theirs in zip(*seen, strict=True):
        assert relative_error(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("size", [(224, 224), (50, 60), (300, 224), (577, 1025), (1000, 90), (2, 3)])
def test_pictures_are_made_small_as_the_authors_do(size):
    pixels = 2 * tensors(2, 3, *size) - 1
    theirs = reference_module._resize_with_antialiasing(pixels, (224, 224))
    assert relative_error(resized_for_clip(pixels, 224), theirs) < 1e-5


def test_decode_latents_agrees():
    ours, reference = pair()
    latents = tensors(2, 5, 4, 8, 12) - 0.5
    with torch.no_grad():
        assert relative_error(ours.decode_latents(latents, 5), reference.decode_latents(latents, 5, 5)) < 1e-5
        alone = [reference.decode_latents(one[None], 5, 2) for one in latents]
        assert relative_error(ours.decode_latents(latents, 5, 2), torch.cat(alone)) < 1e-5
