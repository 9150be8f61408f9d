"""The pipeline of I2VGen-XL gives the reference's videos.

The reference draws the picture's latents from torch's global stream: here both are given that stream itself, seeded, as
the guide does by `generator=torch.manual_seed(8888)`.
"""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from diffusers.pipelines.deprecated.i2vgen_xl import pipeline_i2vgen_xl as theirs

import filmstrip
from filmstrip import schedulers
from filmstrip.models.i2vgen_xl.pictures import cropped, seen_by_autoencoder
from tests import tiny
from tests.parity.references import randomise, relative_error, transplant
from tests.tiny_i2vgen_xl import SIDE, image_processor, picture

TOLERANCE = 1e-4
BETAS = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "steps_offset": 1}
# Whose noise levels reach 1e4 with that schedule, where rounding is all there is.
EULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SOLVERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"clip_sample": False, "rescale_betas_zero_snr": True},
    "DDPMScheduler": {"clip_sample": False},
    "EulerDiscreteScheduler": EULER,
    "EulerAncestralDiscreteScheduler": EULER,
    "DPMSolverMultistepScheduler": {},
    "UniPCMultistepScheduler": {},
    "PNDMScheduler": {"skip_prk_steps": True},
}


def network(name: str, **settings: Any) -> tuple[Any, Any]:
    """Ours and the reference's with the same weights."""
    reference = randomise(getattr(diffusers, name)(**settings), spread=0.1)
    return transplant(getattr(filmstrip, name)(**settings), reference), reference


def pair(solver: str = "DDIMScheduler", **unet: Any) -> tuple[Any, Any]:
    """A pipeline of ours and one of the reference's that share their weights."""
    unets = network("I2VGenXLUNet", **{**tiny.MODELSCOPE_UNET, **unet})
    vaes = network("AutoencoderKL", **tiny.STABLE_DIFFUSION_AUTOENCODER)
    pipelines = []
    for library, of_schedulers, unet_of_side, vae in zip(
        (filmstrip, diffusers), (schedulers, diffusers), unets, vaes, strict=True
    ):
        pipelines.append(
            library.I2VGenXLPipeline(
                vae=vae,
                unet=unet_of_side,
                text_encoder=tiny.clip_text_encoder(),
                tokenizer=tiny.clip_tokenizer(),
                image_encoder=randomise(tiny.clip_vision_encoder(side=SIDE)),
                feature_extractor=image_processor(),
                scheduler=getattr(of_schedulers, solver)(**{**BETAS, **SOLVERS[solver]}),
            )
        )
        pipelines[-1].set_progress_bar_config(disable=True)
    # The reference looks for the last norm of a text encoder where one release of transformers has it.
    pipelines[1].text_encoder.__dict__["text_model"] = pipelines[0].text_encoder
    return pipelines[0], pipelines[1]


def videos_of_both(ours: Any, reference: Any, **call: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What both make of one call."""
    size = {"height": 16, "width": 24, "num_frames": 3}
    usual = {"prompt": "a red star", "image": picture(0, 48, 32), "num_inference_steps": 4, "output_type": "pt"}
    frames = [
        pipeline(**{**usual, **size, **call}, generator=torch.manual_seed(7)).frames for pipeline in (ours, reference)
    ]
    return frames[0], frames[1]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tensors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


KINDS: dict[str, dict[str, Any]] = {
    "guided": {"negative_prompt": "blurry and dull"},
    "unguided": {"guidance_scale": 1.0},
    "no layer left out": {"clip_skip": None, "negative_prompt": "blurry"},
    "two layers left out": {"clip_skip": 2, "negative_prompt": "blurry"},
    "fresh noise": {"eta": 0.6},
    "latents as output": {"output_type": "latent"},
    "embeddings": {
        "prompt": None,
        "prompt_embeds": normal(1, 32, 16),
        "negative_prompt_embeds": normal(1, 32, 16, seed=1),
    },
    "latents": {"latents": normal(1, 4, 3, 8, 12)},
    "another rate": {"target_fps": 7},
    "one frame": {"num_frames": 1},
    "another length and size": {"height": 24, "width": 32, "num_frames": 5},
    "a wide picture": {"image": picture(1, 96, 32)},
    "a high picture": {"image": picture(1, 30, 80)},
    "a small picture": {"image": picture(1, 12, 8)},
    "a tensor": {"image": tensors(3, 32, 48)},
    "two prompts and pictures": {"prompt": ["a cat", "two dogs"], "image": [picture(0, 48, 32), picture(1, 48, 32)]},
    "two prompts and tensors": {
        "prompt": ["a cat", "two dogs"],
        "negative_prompt": ["dull", "dark"],
        "image": tensors(2, 3, 32, 48),
    },
    "frames in chunks": {"decode_chunk_size": 2},
    "all frames at once": {"decode_chunk_size": None},
    "too long": {"prompt": "a very long prompt that does not fit the window", "num_inference_steps": 2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_video_agrees_for_every_kind_of_call(kind):
    assert relative_error(*videos_of_both(*pair(), **KINDS[kind])) < TOLERANCE


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_video_agrees_under_every_solver(solver):
    assert relative_error(*videos_of_both(*pair(solver), num_inference_steps=5)) < TOLERANCE


@pytest.mark.parametrize("unet", [{"attention_head_dim": 4}, {"cross_attention_dim": 16, "norm_num_groups": 4}])
def test_a_video_agrees_for_other_networks(unet):
    assert relative_error(*videos_of_both(*pair(**unet))) < TOLERANCE


def test_schedulers_are_swapped_as_in_the_guide():
    both = pair()
    for pipeline, library in zip(both, (schedulers, diffusers), strict=True):
        pipeline.scheduler = library.DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    assert relative_error(*videos_of_both(*both)) < TOLERANCE


def test_a_checkpoint_that_the_reference_saves_gives_its_video(tmp_path):
    _, reference = pair()
    del reference.text_encoder.__dict__["text_model"]
    reference.save_pretrained(tmp_path)
    ours = filmstrip.DiffusionPipeline.from_pretrained(tmp_path)
    assert type(ours) is filmstrip.I2VGenXLPipeline
    ours.set_progress_bar_config(disable=True)
    assert relative_error(*videos_of_both(ours, reference, clip_skip=None)) < TOLERANCE


def test_pictures_are_cropped_as_by_the_reference_but_never_with_a_black_line():
    """The reference divides by a quotient, which in one of these sizes falls a pixel short."""
    short = 0
    for size in ((48, 32), (49, 31), (31, 49), (97, 97), (333, 200), (24, 16), (10, 7)):
        for target in ((24, 16), (40, 24), (24, 24), (88, 56)):
            image = picture(2, *size)
            expected = theirs._center_crop_wide(image, target)
            scale = min(size[0] / target[0], size[1] / target[1])
            if any(own // scale < wanted for own, wanted in zip(size, target, strict=True)):
                short += 1
                continue
            assert cropped(image, *target).tobytes() == expected.tobytes(), (size, target)
            assert seen_by_autoencoder([image], *target).shape == (1, 3, target[1], target[0])
    assert short
