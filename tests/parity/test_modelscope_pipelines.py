"""The pipelines of ModelScope give the reference's videos."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import filmstrip
from filmstrip import schedulers
from tests import tiny
from tests.parity.references import randomise, relative_error, transplant

TOLERANCE = 1e-4
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
TEXT, VIDEO = "TextToVideoSDPipeline", "VideoToVideoSDPipeline"
SOLVERS = {
    "DDIMScheduler": {"clip_sample": False, "set_alpha_to_one": False},
    "DDPMScheduler": {"clip_sample": False},
    "PNDMScheduler": {"skip_prk_steps": True},
    "EulerDiscreteScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {},
    "UniPCMultistepScheduler": {},
    "LMSDiscreteScheduler": {},
    "HeunDiscreteScheduler": {},
}


def network(name: str, **settings: Any) -> tuple[Any, Any]:
    """Ours and the reference's with the same weights."""
    reference = randomise(getattr(diffusers, name)(**settings), spread=0.1)
    return transplant(getattr(filmstrip, name)(**settings), reference), reference


def pair(name: str, solver: str = "DDIMScheduler", **unet: Any) -> tuple[Any, Any]:
    """A pipeline of ours and one of the reference's that share their weights."""
    unets = network("UNet3DConditionModel", **{**tiny.MODELSCOPE_UNET, **unet})
    vaes = network("AutoencoderKL", **tiny.STABLE_DIFFUSION_AUTOENCODER)
    pipelines = []
    for library, pipeline_library, unet_of_side, vae in zip(
        (schedulers, diffusers), (filmstrip, diffusers), unets, vaes, strict=True
    ):
        pipelines.append(
            getattr(pipeline_library, name)(
                vae=vae,
                unet=unet_of_side,
                text_encoder=tiny.clip_text_encoder(),
                tokenizer=tiny.clip_tokenizer(),
                scheduler=getattr(library, solver)(**BETAS, **SOLVERS[solver]),
            )
        )
        pipelines[-1].set_progress_bar_config(disable=True)
    # The reference looks for the last norm of a text encoder where one release of transformers has it.
    pipelines[1].text_encoder.__dict__["text_model"] = pipelines[0].text_encoder
    return pipelines[0], pipelines[1]


def videos_of_both(ours: Any, reference: Any, **call: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What both make of one call."""
    call = {"prompt": "a red star", "num_inference_steps": 4, "output_type": "pt", **call}
    if isinstance(ours, filmstrip.TextToVideoSDPipeline):
        call = {"height": 16, "width": 24, "num_frames": 3, **call}
    else:
        call = {"video": clip(), **call}
    frames = [pipeline(**call, generator=torch.Generator().manual_seed(7)).frames for pipeline in (ours, reference)]
    return frames[0], frames[1]


def clip(seed: int = 0, num_frames: int = 3, height: int = 16, width: int = 24) -> list[Image.Image]:
    levels = np.random.default_rng(seed).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)
    return [Image.fromarray(frame) for frame in levels]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SHARED: dict[str, dict[str, Any]] = {
    "guided": {"negative_prompt": "blurry and dull"},
    "unguided": {"guidance_scale": 1.0},
    "layers left out": {"clip_skip": 1},
    "fresh noise": {"eta": 0.6},
    "latents as output": {"output_type": "latent"},
    "embeddings": {
        "prompt": None,
        "prompt_embeds": normal(1, 32, 16),
        "negative_prompt_embeds": normal(1, 32, 16, seed=1),
    },
    "too long": {"prompt": "a very long prompt that does not fit the window", "num_inference_steps": 2},
}
OF_TEXT: dict[str, dict[str, Any]] = {
    **SHARED,
    "two prompts": {"prompt": ["a cat", "two dogs"], "negative_prompt": ["dull", "dark"]},
    "usual length and size": {"height": None, "width": None, "num_frames": 16, "num_inference_steps": 2},
    "one frame": {"num_frames": 1},
    "another size": {"height": 24, "width": 40, "num_frames": 5},
    "latents": {"latents": normal(1, 4, 3, 8, 12)},
}
OF_VIDEOS: dict[str, dict[str, Any]] = {
    **SHARED,
    "weak": {"strength": 0.3},
    "whole": {"strength": 1.0},
    "another length": {"video": clip(1, 5)},
    "another size": {"video": clip(2, 3, 24, 40)},
    "a tensor": {"video": torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(1))},
    "latents of a clip": {"video": normal(1, 3, 4, 8, 12)},
}


@pytest.mark.parametrize("name", [TEXT, VIDEO])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_video_agrees_under_every_solver(name, solver):
    # Begun in the middle, these two weigh slopes that they do not have, in the reference.
    more = {"strength": 1.0} if name == VIDEO and solver in ("PNDMScheduler", "LMSDiscreteScheduler") else {}
    assert relative_error(*videos_of_both(*pair(name, solver), num_inference_steps=5, **more)) < TOLERANCE


@pytest.mark.parametrize("kind", OF_TEXT)
def test_a_video_of_a_text_agrees_for_every_kind_of_call(kind):
    assert relative_error(*videos_of_both(*pair(TEXT), **OF_TEXT[kind])) < TOLERANCE


@pytest.mark.parametrize("kind", OF_VIDEOS)
def test_a_changed_video_agrees_for_every_kind_of_call(kind):
    assert relative_error(*videos_of_both(*pair(VIDEO), **OF_VIDEOS[kind])) < TOLERANCE


@pytest.mark.parametrize("name", [TEXT, VIDEO])
def test_the_old_callback_sees_what_the_references_sees(name):
    seen: tuple[list[Any], list[Any]] = ([], [])
    ours, reference = pair(name)
    kinds = {ours: seen[0], reference: seen[1]}
    for pipeline, steps in kinds.items():
        given = {"height": 16, "width": 24, "num_frames": 3} if name == TEXT else {"video": clip()}
        generator = torch.Generator().manual_seed(7)
        note = lambda *of_step, steps=steps: steps.append(of_step)  # noqa: E731
        pipeline("a cat", num_inference_steps=5, **given, generator=generator, callback=note, callback_steps=2)
    assert [step for step, _, _ in seen[0]] == [step for step, _, _ in seen[1]] != []
    for (_, timestep, latents), (_, expected_timestep, expected) in zip(*seen, strict=True):
        assert float(timestep) == float(expected_timestep)
        assert relative_error(latents, expected) < TOLERANCE


@pytest.mark.parametrize("head_dim", [4, 16])
def test_a_video_agrees_for_other_heads(head_dim):
    assert relative_error(*videos_of_both(*pair(TEXT, attention_head_dim=head_dim))) < TOLERANCE


def test_a_predicted_velocity_agrees():
    both = pair(TEXT)
    for pipeline in both:
        scheduler = pipeline.scheduler
        pipeline.scheduler = type(scheduler).from_config(scheduler.config, prediction_type="v_prediction")
    assert relative_error(*videos_of_both(*both)) < TOLERANCE


def test_schedulers_are_swapped_as_in_the_guide():
    both = pair(TEXT)
    for pipeline, library in zip(both, (schedulers, diffusers), strict=True):
        pipeline.scheduler = library.DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    assert relative_error(*videos_of_both(*both)) < TOLERANCE


@pytest.mark.parametrize("name", [TEXT, VIDEO])
def test_a_checkpoint_that_the_reference_saves_gives_its_video(name, tmp_path):
    _, reference = pair(name)
    del reference.text_encoder.__dict__["text_model"]
    reference.save_pretrained(tmp_path)
    ours = getattr(filmstrip, name).from_pretrained(tmp_path)
    ours.set_progress_bar_config(disable=True)
    assert relative_error(*videos_of_both(ours, reference)) < TOLERANCE
    other = getattr(filmstrip, TEXT if name == VIDEO else VIDEO).from_pretrained(tmp_path)
    assert other.unet.config == ours.unet.config
