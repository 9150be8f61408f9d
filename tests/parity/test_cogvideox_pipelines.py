"""The pipelines of CogVideoX give the reference's frames."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import filmstrip
from tests import tiny
from tests.parity.references import randomise, relative_error, transplant

TOLERANCE = 1e-4
PUBLISHED: dict[str, dict[str, Any]] = {  # the schedules of the published checkpoints
    "2b": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    "5b": {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "snr_shift_scale": 1.0,
    },
    "plain": {},
}
ROTARY = {**tiny.COGVIDEOX_TRANSFORMER, "use_rotary_positional_embeddings": True}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "2b": tiny.COGVIDEOX_TRANSFORMER,
    "5b": {**ROTARY, "num_attention_heads": 3},
    "5b image": {**ROTARY, "in_channels": 8, "use_learned_positional_embeddings": True},
    "control": {**ROTARY, "in_channels": 8},
    "1.5": {**tiny.COGVIDEOX_1_5_TRANSFORMER, "ofs_embed_dim": None, "sample_height": 16, "sample_width": 16},
    "1.5 image": {**tiny.COGVIDEOX_1_5_TRANSFORMER, "in_channels": 8, "sample_height": 16, "sample_width": 16},
}


def pair(
    name: str, network: str, *, solver: str = "DDIM", schedule: str = "5b", **vae_settings: Any
) -> tuple[Any, Any]:
    """A pipeline of ours and one of the reference's that share their weights."""
    settings = {**tiny.COGVIDEOX_AUTOENCODER, "scaling_factor": 0.7, **vae_settings}
    transformer = randomise(diffusers.CogVideoXTransformer3DModel(**TRANSFORMERS[network]), spread=0.1)
    vae = randomise(diffusers.AutoencoderKLCogVideoX(**settings), spread=0.1)
    scheduler = f"CogVideoX{solver}Scheduler"
    shared = {"text_encoder": tiny.text_encoder(), "tokenizer": tiny.tokenizer()}
    reference = getattr(diffusers, name)(
        transformer=transformer,
        vae=vae,
        scheduler=getattr(diffusers, scheduler)(**PUBLISHED[schedule]),
        **shared,
    )
    reference.set_progress_bar_config(disable=True)
    ours = getattr(filmstrip, name)(
        transformer=transplant(filmstrip.CogVideoXTransformer3DModel(**TRANSFORMERS[network]), transformer),
        vae=transplant(filmstrip.AutoencoderKLCogVideoX(**settings), vae),
        scheduler=getattr(filmstrip, scheduler)(**PUBLISHED[schedule]),
        **shared,
    )
    ours.set_progress_bar_config(disable=True)
    return ours, reference


def frames_of_both(ours: Any, reference: Any, **call: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What both make of one call."""
    usual = {"height": 32, "width": 48, "num_inference_steps": 3, "max_sequence_length": 48, "output_type": "pt"}
    call = {**usual, "prompt": "a red star", **call}
    outputs = [pipeline(**call, generator=torch.Generator().manual_seed(7)).frames for pipeline in (ours, reference)]
    return outputs[0], outputs[1]


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8))


def clip(num_frames: int, seed: int = 0) -> list[Image.Image]:
    return [picture(100 * seed + index) for index in range(num_frames)]


CALLS: dict[str, dict[str, Any]] = {
    "guided": {"negative_prompt": "blurry and dull", "num_frames": 9},
    "unguided": {"guidance_scale": 1.0, "num_frames": 8},
    "two prompts": {"prompt": ["a cat", "two dogs in the rain"], "num_frames": 17},
    "pairs of latents": {"num_frames": 16, "guidance_scale": 2.5},
    "another size": {"height": 64, "width": 32, "num_frames": 9},
    "fewer tokens": {"max_sequence_length": 17, "num_frames": 9},
    "one picture": {"num_frames": 1},
    "latents": {"output_type": "latent", "num_frames": 9},
}


@pytest.mark.parametrize("schedule", PUBLISHED)
@pytest.mark.parametrize("solver", ["DDIM", "DPM"])
@pytest.mark.parametrize("network", ["2b", "5b", "1.5"])
def test_text_to_video_agrees_under_every_schedule(network, solver, schedule):
    both = pair("CogVideoXPipeline", network, solver=solver, schedule=schedule)
    assert relative_error(*frames_of_both(*both, **CALLS["guided"])) < TOLERANCE


@pytest.mark.parametrize(
    ("network", "name"),
    # With sine positions, the reference takes as many tokens only as the configuration says.
    [(network, name) for network in ("2b", "5b", "1.5") for name in CALLS if (network, name) != ("2b", "fewer tokens")],
)
def test_text_to_video_agrees_for_every_kind_of_call(network, name):
    assert relative_error(*frames_of_both(*pair("CogVideoXPipeline", network), **CALLS[name])) < TOLERANCE


def test_a_size_beyond_the_grid_of_1_5_is_placed_on():
    # The reference counts positions up to the size of the configuration, and fails beyond.
    ours, reference = pair("CogVideoXPipeline", "1.5")
    with pytest.raises(Exception):  # noqa: B017
        frames_of_both(ours, reference, height=144, num_frames=1)
    reference.transformer.register_to_config(sample_height=40, sample_width=40)
    assert relative_error(*frames_of_both(ours, reference, height=144, num_frames=1)) < TOLERANCE


@pytest.mark.parametrize("kind", ["tiling", "slicing"])
def test_text_to_video_agrees_with_the_autoencoder_in_parts(kind):
    both = pair("CogVideoXPipeline", "2b", sample_height=96, sample_width=80)
    for pipeline in both:
        getattr(pipeline.vae, f"enable_{kind}")()
    call = {"height": 64, "width": 64, "num_frames": 9, "prompt": ["a cat", "a dog"]}
    in_parts, reference = frames_of_both(*both, **call)
    assert relative_error(in_parts, reference) < TOLERANCE
    getattr(both[0].vae, f"disable_{kind}")()
    whole = both[0](
        **call, num_inference_steps=3, max_sequence_length=48, output_type="pt", generator=torch.manual_seed(7)
    )
    assert (relative_error(whole.frames, reference) > 0.01) == (kind == "tiling")


def test_dynamic_guidance_follows_the_progress_and_on_request_the_reference():
    both = pair("CogVideoXPipeline", "5b")
    call = {"num_frames": 9, "num_inference_steps": 4}
    scales: list[float] = []

    def note(pipeline: Any, index: int, timestep: Any, tensors: Any) -> dict[str, Any]:
        # Taking the step's scale by hand is what the authors' formula amounts to.
        pipeline._guidance_scale = 1 + 6 * (1 - np.cos(np.pi * ((index + 1) / 4) ** 5)) / 2
        scales.append(pipeline._guidance_scale)
        return {}

    by_progress = both[0](
        prompt="a red star",
        height=32,
        width=48,
        use_dynamic_cfg=True,
        max_sequence_length=48,
        output_type="pt",
        generator=torch.manual_seed(7),
        **call,
    ).frames
    by_hand = both[0](
        prompt="a red star",
        height=32,
        width=48,
        guidance_scale=1 + 1e-9,
        max_sequence_length=48,
        output_type="pt",
        generator=torch.manual_seed(7),
        callback_on_step_end=note,
        **call,
    ).frames
    assert relative_error(by_progress, by_hand) < TOLERANCE

    ours, reference = both
    usual = {"prompt": "a red star", "height": 32, "width": 48, "max_sequence_length": 48, "output_type": "pt", **call}
    as_the_reference = ours(**usual, use_dynamic_cfg="timestep", generator=torch.manual_seed(7)).frames
    theirs = reference(**usual, use_dynamic_cfg=True, generator=torch.manual_seed(7)).frames
    assert relative_error(as_the_reference, theirs) < TOLERANCE
    assert relative_error(by_progress, theirs) > 0.01


@pytest.mark.parametrize("solver", ["DDIM", "DPM"])
@pytest.mark.parametrize(
    ("network", "num_frames", "inverted"),
    [("5b image", 9, False), ("5b image", 5, True), ("1.5 image", 9, True), ("1.5 image", 16, False)],
)
def test_image_to_video_agrees(network, num_frames, inverted, solver):
    name = "CogVideoXImageToVideoPipeline"
    ours, reference = pair(name, network, solver=solver, invert_scale_latents=inverted)
    frames, expected = frames_of_both(ours, reference, image=picture(), num_frames=num_frames)
    assert frames.shape[1] == num_frames  # the reference makes some more
    assert relative_error(frames, expected[:, :num_frames]) < TOLERANCE


def test_image_to_video_agrees_for_two_prompts_with_a_picture_each():
    both = pair("CogVideoXImageToVideoPipeline", "5b image")
    pictures = [picture(0), picture(1)]
    assert relative_error(*frames_of_both(*both, image=pictures, prompt=["a cat", "a dog"], num_frames=9)) < TOLERANCE


@pytest.mark.parametrize("solver", ["DDIM", "DPM"])
@pytest.mark.parametrize(("network", "num_frames"), [("2b", 9), ("5b", 17), ("5b", 8), ("1.5", 16)])
def test_video_to_video_agrees(network, num_frames, solver):
    both = pair("CogVideoXVideoToVideoPipeline", network, solver=solver)
    call = {"video": clip(num_frames), "num_inference_steps": 4, "strength": 0.7}
    assert relative_error(*frames_of_both(*both, **call)) < TOLERANCE


def test_video_to_video_agrees_from_latents():
    both = pair("CogVideoXVideoToVideoPipeline", "5b")
    latents = torch.randn(1, 3, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    assert relative_error(*frames_of_both(*both, latents=latents, strength=0.7)) < TOLERANCE


def test_video_to_video_of_1_5_takes_an_odd_number_of_latents():
    ours, reference = pair("CogVideoXVideoToVideoPipeline", "1.5")
    with pytest.raises(ValueError, match="divisible"):
        frames_of_both(ours, reference, video=clip(9))
    call = {"height": 32, "width": 48, "num_inference_steps": 3, "max_sequence_length": 48, "output_type": "pt"}
    frames = ours(clip(9), "a red star", **call).frames
    assert frames.shape[1] == 9


@pytest.mark.parametrize("num_frames", [9, 16])
def test_control_agrees(num_frames):
    both = pair("CogVideoXFunControlPipeline", "control")
    assert relative_error(*frames_of_both(*both, control_video=clip(num_frames))) < TOLERANCE


def test_control_latents_equal_the_control_video():
    ours, _ = pair("CogVideoXFunControlPipeline", "control")
    pixels = filmstrip.media.pixels.preprocess_video(clip(9), 32, 48)
    latents = ours.vae.encode(pixels).latent_dist.mode() * ours.vae.config.scaling_factor
    call = {"prompt": "a cat", "height": 32, "width": 48, "num_inference_steps": 2, "output_type": "pt"}
    results = [
        ours(**call, **given, generator=torch.manual_seed(7)).frames
        for given in ({"control_video": clip(9)}, {"control_video_latents": latents.detach()})
    ]
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_several_videos_of_a_prompt_differ_and_equal_prompts_given_twice():
    # The reference makes one, whatever is asked for.
    ours, reference = pair("CogVideoXPipeline", "5b")
    two, _ = frames_of_both(ours, reference, num_videos_per_prompt=2, num_frames=9)
    _, expected = frames_of_both(ours, reference, prompt=["a red star", "a red star"], num_frames=9)
    assert relative_error(two, expected) < TOLERANCE
    assert relative_error(two[:1], two[1:]) > 0.01
