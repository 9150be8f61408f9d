"""Text2Video-Zero gives the reference's frames, and more than the reference can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.deprecated.text_to_video_synthesis import pipeline_text_to_video_zero as reference_module

import filmstrip
from filmstrip.models.text2video_zero.motion import moved_latents
from tests.parity.references import relative_error
from tests.parity.test_stable_diffusion_pipelines import network, pair, picture

TOLERANCE = 1e-4
pytestmark = pytest.mark.filterwarnings("ignore")


def zero_pair(solver: str = "DDIMScheduler") -> tuple[Any, Any]:
    """A pipeline of ours and one of the reference's that share their weights."""
    ours, reference = pair("StableDiffusionPipeline", solver)
    parts = {name: getattr(reference, name) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
    rest = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    theirs = reference_module.TextToVideoZeroPipeline(**parts, **rest)
    theirs.set_progress_bar_config(disable=True)
    ours = filmstrip.TextToVideoZeroPipeline.from_pipe(ours)
    ours.set_progress_bar_config(disable=True)
    return ours, theirs


def frames_of_both(ours: Any, reference: Any, **call: Any) -> tuple[torch.Tensor, torch.Tensor]:
    usual = {"prompt": "a red star", "num_inference_steps": 8, "t0": 3, "t1": 5, "video_length": 4, **call}
    results = [pipeline(**usual, generator=torch.Generator().manual_seed(7)).images for pipeline in (ours, reference)]
    return torch.from_numpy(results[0]), torch.from_numpy(results[1])


@pytest.mark.parametrize("solver", ["DDIMScheduler", "PNDMScheduler"])
@pytest.mark.parametrize(
    "call",
    [
        {},
        {"video_length": 3, "t0": 2, "t1": 5, "motion_field_strength_x": 100},
        {"frame_ids": [0, 4, 5, 6], "motion_field_strength_y": -30},
        {"negative_prompt": "dull", "guidance_scale": 3.0, "height": 24, "width": 16},
    ],
    ids=["plain", "other times", "a later part", "another size"],
)
def test_videos_agree(solver, call):
    assert relative_error(*frames_of_both(*zero_pair(solver), **call)) < TOLERANCE


@pytest.mark.parametrize("solver", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_a_solver_that_gives_later_frames_less_noise_is_named(solver):
    ours, _ = zero_pair(solver)
    seen: list[torch.Tensor] = []
    call = {"num_inference_steps": 8, "t0": 2, "t1": 5, "video_length": 6, "height": 64, "width": 64}
    report = ours(
        "a star", **call, callback=lambda *given: seen.append(given[2]), generator=torch.manual_seed(1)
    ).report
    deviations = next(latents for latents in seen if len(latents) == 6).std((1, 2, 3))
    is_even = bool((deviations[1:] / deviations[0]).log().abs().max() < 0.1)
    assert is_even != any("later frames less noise" in sentence for sentence in report.adjustments)


def test_the_times_of_50_steps_are_the_papers_and_others_in_proportion():
    ours, _ = zero_pair()
    for steps, times in {50: (44, 47), 20: (18, 19), 10: (8, 9), 4: (2, 3), 2: (0, 1)}.items():
        request = ours.request(prompt="a cat", num_inference_steps=steps)
        assert (request.arguments.t0, request.arguments.t1) == times
    with pytest.raises(ValueError, match="must be at least 2"):
        ours.request(prompt="a cat", num_inference_steps=1)


def test_fresh_noise_agrees():
    assert relative_error(*frames_of_both(*zero_pair(), eta=0.5)) < TOLERANCE


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (12, 20)])
@pytest.mark.parametrize("strengths", [(12, 12), (0, 5), (-7.5, 300)])
def test_latents_are_moved_exactly_as_the_reference_moves_them(size, strengths):
    latents = torch.randn(1, 4, *size)
    expected = reference_module.create_motion_field_and_warp_latents(*strengths, [1, 2, 5], latents.repeat(3, 1, 1, 1))
    assert torch.equal(moved_latents(latents, [1, 2, 5], *strengths)[0], expected)


def test_parts_of_a_long_video_join():
    ours, _ = zero_pair()
    call = {"prompt": "a red star", "num_inference_steps": 6, "t0": 2, "t1": 4, "output_type": "pt"}
    whole = ours(**call, video_length=1, generator=torch.manual_seed(1)).frames
    part = ours(**call, video_length=3, frame_ids=[0, 5, 6], generator=torch.manual_seed(1)).frames
    torch.testing.assert_close(part[:, :1], whole, rtol=1e-5, atol=1e-5)


def test_all_frames_attend_to_the_first():
    ours, reference = network("UNet2DConditionModel", **pair("StableDiffusionPipeline")[0].unet.config)
    ours.set_attn_processor(filmstrip.CrossFrameAttnProcessor(batch_size=2))
    reference.set_attn_processor(reference_module.CrossFrameAttnProcessor2_0(batch_size=2))
    given = torch.randn(6, 4, 8, 8), 7, torch.randn(6, 5, 16)
    with torch.no_grad():
        changed, expected = ours(*given)[0], reference(*given)[0]
        ours.set_default_attn_processor()
        plain = ours(*given)[0]
    assert relative_error(changed, expected) < 1e-5
    assert relative_error(changed[1:3], plain[1:3]) > 1e-3
    torch.testing.assert_close(changed[[0, 3]], plain[[0, 3]], rtol=1e-4, atol=1e-5)


def across_frames(pipelines: Any, *parts: str, copies: int) -> None:
    """Set cross-frame attention on parts of ours and of the reference's, as the guide does."""
    for pipeline, library in zip(pipelines, (filmstrip, reference_module), strict=True):
        for part in parts:
            getattr(pipeline, part).set_attn_processor(library.CrossFrameAttnProcessor(batch_size=copies))


CLIP = [picture(seed) for seed in range(3)]


@pytest.mark.parametrize(
    "call",
    [{}, {"guidance_scale": 1.0}, {"control_guidance_end": 0.5, "controlnet_conditioning_scale": 0.4}],
    ids=["plain", "unguided", "weak"],
)
def test_control_by_a_clip_agrees_with_the_guides_recipe(call):
    # The recipe: the frames of a clip as a batch, the same latents for all, attention across them.
    both = pair("StableDiffusionControlNetPipeline", controls=1)
    ours = filmstrip.TextToVideoZeroControlNetPipeline.from_pipe(both[0])
    latents = torch.randn(1, 4, 8, 8)
    usual = {"num_inference_steps": 3, "height": 16, "width": 16, "output_type": "pt", **call}
    video = ours("a dance", control_video=CLIP, latents=latents, **usual).images
    across_frames(both, "unet", "controlnet", copies=1 if call.get("guidance_scale") == 1 else 2)
    recipe = {"prompt": ["a dance"] * 3, "image": CLIP, "latents": latents.repeat(3, 1, 1, 1), **usual}
    pictures, expected = both[0](**recipe).images, both[1](**recipe).images
    assert relative_error(pictures, expected) < TOLERANCE
    assert relative_error(video, expected) < TOLERANCE


def test_guessed_control_attends_across_frames_too():
    # The guide's recipe can not: there the network of control is given half of the batch that the U-Net is given.
    ours, _ = pair("StableDiffusionControlNetPipeline", controls=1)
    ours = filmstrip.TextToVideoZeroControlNetPipeline.from_pipe(ours)
    call = {"prompt": "a dance", "control_video": CLIP, "num_inference_steps": 2, "guess_mode": True}
    call |= {"latents": torch.randn(1, 4, 8, 8), "output_type": "pt"}
    together, in_turn = (ours(**call, sequential_guidance=way).images for way in (False, True))
    assert together.shape == (3, 3, 16, 16)
    assert not torch.equal(together, in_turn)  # in turn, the control counts for the negative prompt, too


def test_a_changed_clip_agrees_with_the_guides_recipe():
    both = pair("StableDiffusionInstructPix2PixPipeline", in_channels=8)
    ours = filmstrip.TextToVideoZeroInstructPix2PixPipeline.from_pipe(both[0])
    usual = {"num_inference_steps": 3, "image_guidance_scale": 2.0, "output_type": "pt"}
    video = ours("oil", video=CLIP, height=16, width=16, **usual, generator=torch.manual_seed(1)).images
    across_frames(both, "unet", copies=3)
    recipe = {"prompt": ["oil"] * 3, "image": CLIP, **usual}
    pictures, expected = (one(**recipe, generator=torch.manual_seed(1)).images for one in both)
    assert relative_error(pictures, expected) < TOLERANCE
    assert relative_error(video, expected) < TOLERANCE


def test_attention_layers_are_put_back_even_if_a_step_fails():
    ours, _ = zero_pair()
    before = ours.unet.attn_processors

    def fail(*_: Any) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        ours("a cat", num_inference_steps=4, t0=1, t1=2, callback_on_step_end=fail)
    assert ours.unet.attn_processors == before


def test_images_are_arrays_as_the_guide_expects():
    ours, _ = zero_pair()
    result = ours(prompt="a panda", num_inference_steps=4, t0=1, t1=2, video_length=2).images
    frames = [(frame * 255).astype("uint8") for frame in result]
    assert len(frames) == 2 and all(isinstance(frame, np.ndarray) and frame.shape == (16, 16, 3) for frame in frames)
