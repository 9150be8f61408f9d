"""Text2Video-Zero with Stable Diffusion XL gives the reference's videos, and more where the reference gives up."""

from __future__ import annotations

import copy
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from filmstrip import schedulers
from filmstrip.models.stable_diffusion import AutoencoderKL, UNet2DConditionModel, xl
from filmstrip.models.text2video_zero.pipeline_sdxl import TextToVideoZeroSDXLPipeline
from tests import tiny
from tests.parity.references import randomise, relative_error, transplant

TOLERANCE = 1e-4
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
CALL: dict[str, Any] = {
    "prompt": "a red star",
    "video_length": 3,
    "num_inference_steps": 6,
    "t0": 1,
    "t1": 3,
    "output_type": "pt",
}
# Of the reference's calls of torch.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*indexing argument:UserWarning", "ignore:Default grid_sample:UserWarning"
)


def components(solver: str = "DDIMScheduler", **unet: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ours and the reference's, with the same weights."""
    settings = {**tiny.STABLE_DIFFUSION_XL_UNET, **unet}
    networks = {
        "unet": (UNet2DConditionModel, diffusers.UNet2DConditionModel, settings),
        "vae": (AutoencoderKL, diffusers.AutoencoderKL, tiny.STABLE_DIFFUSION_AUTOENCODER),
    }
    both: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for name, (ours, theirs, config) in networks.items():
        both[1][name] = randomise(theirs(**config), spread=0.1)
        both[0][name] = transplant(ours(**config), both[1][name])
    shared = {
        "tokenizer": tiny.clip_tokenizer(),
        "tokenizer_2": tiny.clip_tokenizer(),
        "text_encoder": randomise(tiny.clip_text_encoder()),
        "text_encoder_2": randomise(tiny.clip_text_encoder_with_projection()),
    }
    shared["tokenizer_2"].pad_token = "<unk>"  # the second encoder of SDXL has another mark than the first
    for parts, library in zip(both, (schedulers, diffusers), strict=True):
        # PNDM's other way to begin calls the network four times for a step; the reference's t0 and t1 count calls.
        more = {"skip_prk_steps": True} if solver == "PNDMScheduler" else {}
        parts.update(shared, scheduler=getattr(library, solver)(**BETAS, **more))
    return both


def ours_with(**flags: Any) -> TextToVideoZeroSDXLPipeline:
    pipeline = TextToVideoZeroSDXLPipeline(**components()[0], **flags)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pair(solver: str = "DDIMScheduler", **flags: Any) -> tuple[Any, Any]:
    parts, reference_parts = components(solver)
    ours = TextToVideoZeroSDXLPipeline(**parts, **flags)
    reference = diffusers.TextToVideoZeroSDXLPipeline(**reference_parts, add_watermarker=False, **flags)
    for pipeline in (ours, reference):
        pipeline.set_progress_bar_config(disable=True)
    return ours, reference


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def video(pipeline: Any, **call: Any) -> torch.Tensor:
    """(batch, frames, 3, height, width)."""
    frames: torch.Tensor = pipeline(**{**CALL, "generator": seeded(), **call}).frames
    return frames


def embeds(seed: int = 0, tokens: int = 32) -> dict[str, Any]:
    """Embeddings in place of a prompt and a negative prompt."""
    generator = seeded(seed)
    tensors = [torch.randn(shape, generator=generator) for shape in [(1, tokens, 40)] * 2 + [(1, 8)] * 2]
    return {"prompt": None, **dict(zip(xl.EMBEDS, tensors, strict=True))}


CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "against a text": {"negative_prompt": "dull", "guidance_scale": 4.0},
    "second texts": {"prompt_2": "two dogs", "negative_prompt": "dull", "negative_prompt_2": "dark and grey"},
    "sizes": {"original_size": (20, 33), "crops_coords_top_left": (3, 5), "target_size": (64, 48)},
    "another size": {"height": 24, "width": 32},
    "motion": {"motion_field_strength_x": 90, "motion_field_strength_y": -130, "video_length": 4},
    "a part of a longer video": {"frame_ids": [0, 5, 6]},
    "one frame": {"video_length": 1, "guidance_scale": 1.0},
    "steps before the end": {"t0": 0, "t1": 5},
    "fresh noise": {"eta": 0.5},
    "stopped early": {"denoising_end": 0.8},
    "embeddings": embeds(),
    "embeddings away from zeros": {**embeds(), "negative_prompt_embeds": None, "negative_pooled_prompt_embeds": None},
    "pooled embeddings beside a text": {"pooled_prompt_embeds": embeds()["pooled_prompt_embeds"]},
    "latents": {"output_type": "latent", "latents": torch.randn(1, 4, 8, 8, generator=seeded(3))},
}


@pytest.mark.parametrize("name", CALLS)
def test_a_video_agrees_for_every_kind_of_call(name):
    ours, reference = pair()
    call = {**CALL, **CALLS[name]}
    results = [pipeline(**copy.deepcopy(call), generator=seeded()).images for pipeline in (ours, reference)]
    assert relative_error(*results) < TOLERANCE


@pytest.mark.parametrize(
    "solver", ["PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "DDPMScheduler"]
)
def test_a_video_agrees_under_other_solvers(solver):
    ours, reference = pair(solver)
    results = [pipeline(**CALL, generator=seeded()).images for pipeline in (ours, reference)]
    assert relative_error(*results) < TOLERANCE


@pytest.mark.parametrize("zeros", [True, False])
def test_without_a_negative_prompt_the_flag_says_what_to_leave(zeros):
    ours, reference = pair(force_zeros_for_empty_prompt=zeros)
    results = [pipeline(**CALL, generator=seeded()).images for pipeline in (ours, reference)]
    assert relative_error(*results) < TOLERANCE
    assert relative_error(results[0], video(ours_with(force_zeros_for_empty_prompt=not zeros))[0]) > 1e-3


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"clip_skip": 1},
        {"prompt": ["a cat", "a dog"], "prompt_2": ["one", "two"], "negative_prompt": ["dull", "dark"]},
        {"num_images_per_prompt": 2, "negative_prompt": "dull", "negative_prompt_2": "dark"},
        {"do_classifier_free_guidance": False},
        {"prompt": "a prompt that is much longer than the window of the encoders"},
    ],
)
def test_embeddings_agree(call):
    with torch.no_grad():
        results = [pipeline.encode_prompt(**{"prompt": "a cat", **call}) for pipeline in pair()]
    for made, expected in zip(*results, strict=True):
        assert (made is None) == (expected is None)
        if made is not None:
            torch.testing.assert_close(made, expected)


def test_the_second_encoder_alone_agrees_and_is_given_its_own_text():
    ours, reference = pair()
    for pipeline in (ours, reference):
        pipeline.text_encoder = pipeline.tokenizer = None
    results = [pipeline.encode_prompt("a cat") for pipeline in (ours, reference)]
    torch.testing.assert_close(results[0], results[1])
    # The reference gives it the first one's text.
    second = ours.encode_prompt("a cat", "a dog")
    assert all(torch.equal(*both) for both in zip(second, ours.encode_prompt("a dog"), strict=True))


def test_output_types_are_exact():
    ours = ours_with()
    pt = ours(**CALL, generator=seeded())
    assert pt.images.shape == (3, 3, 16, 16) and pt.frames.shape == (1, 3, 3, 16, 16)
    for name in ("np", "tensor"):
        result = ours(**{**CALL, "output_type": name}, generator=seeded())
        assert isinstance(result.images, np.ndarray) and result.images.shape == (3, 16, 16, 3)
        np.testing.assert_allclose(result.frames[0], pt.frames[0].permute(0, 2, 3, 1).numpy(), atol=1e-6)
    pictures = ours(**{**CALL, "output_type": "pil"}, generator=seeded())
    assert [len(video) for video in pictures.frames] == [3] and pictures.images == pictures.frames[0]
    (images,) = ours(**CALL, generator=seeded(), return_dict=False)
    assert torch.equal(images, pt.images)


# ---- what the reference does not do ----------------------------------------------------------------------------------


def test_a_batch_equals_a_loop():
    """The reference takes one prompt and one video."""
    ours = ours_with()
    texts = {"prompt": ["a cat", "two dogs"], "prompt_2": ["one", "two"], "negative_prompt": "dull"}
    for more in ({}, {"eta": 0.5}, {"guidance_scale": 1.0, "negative_prompt": None}):
        batch = video(ours, **{**texts, **more}, generator=[seeded(1), seeded(2)])
        for row in range(2):
            one = {name: texts[name][row] for name in ("prompt", "prompt_2")}
            single = video(ours, **{**texts, **more, **one}, generator=[seeded(row + 1)])
            torch.testing.assert_close(batch[row], single[0], rtol=0, atol=2e-4)
    ours.scheduler = schedulers.DPMSolverMultistepScheduler(**BETAS)  # remembers steps of all videos
    batch = video(ours, prompt=texts["prompt"], generator=[seeded(1), seeded(2)])
    torch.testing.assert_close(batch[1:], video(ours, prompt="two dogs", generator=seeded(2)), rtol=0, atol=2e-4)
    twice = video(ours, num_videos_per_prompt=2, generator=[seeded(1), seeded(1)])
    torch.testing.assert_close(twice[0], twice[1], rtol=0, atol=2e-4)


def test_all_frames_attend_to_the_first_one_without_guidance_too():
    """The reference halves the frames of unguided videos."""
    ours = ours_with()
    call = {"guidance_scale": 1.0, "latents": torch.randn(1, 4, 8, 8, generator=seeded(3))}
    whole, part = (video(ours, **call, video_length=length) for length in (3, 1))
    torch.testing.assert_close(whole[:, :1], part, rtol=0, atol=2e-4)
    assert relative_error(whole[:, 1:2], whole[:, :1]) > 1e-3


def test_guidance_in_turn_gives_the_same_video():
    ours = ours_with()
    call = {"negative_prompt": "dull", "guidance_rescale": 0.5}
    torch.testing.assert_close(video(ours, **call, sequential_guidance=True), video(ours, **call), rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    "changed",
    [
        {"guidance_rescale": 0.7},
        {"negative_prompt_2": "dark"},
        {"clip_skip": 1},
        {"prompt": "a very long prompt that does not fit the window", "long_prompts": True},
    ],
    ids=["rescaled", "second negative", "layers left out", "in parts"],
)
def test_arguments_that_the_reference_ignores_have_an_effect(changed):
    ours = ours_with()
    usual = {"prompt": changed.get("prompt", CALL["prompt"])}
    assert relative_error(video(ours, **changed), video(ours, **usual)) > 1e-4


def test_a_text_in_parts_keeps_its_first_part_as_the_whole():
    ours = ours_with()
    long = "a very long prompt that does not fit the window at all"
    parts, cut = (ours.encode_prompt(long, long_prompts=way) for way in (True, False))
    assert parts[0].shape == parts[1].shape == (1, 64, 40)
    torch.testing.assert_close(parts[2], cut[2])
    torch.testing.assert_close(parts[0][:, :32], cut[0])


def test_processors_come_back_whatever_happens():
    """The reference loses them if a call fails, and if latents are asked for."""
    ours = ours_with()
    before = dict(ours.unet.attn_processors)

    def fail(*_):
        raise RuntimeError("stop")

    video(ours, output_type="latent")
    with pytest.raises(RuntimeError, match="stop"):
        video(ours, callback=fail)
    assert ours.unet.attn_processors == before


def test_what_a_callback_replaces_holds_for_all_frames():
    ours = ours_with()
    other = embeds(5)

    def replace_at(step_to_replace, **tensors):
        return lambda _, step, __, ___: tensors if step == step_to_replace else None

    plain = video(ours)
    for name in xl.EMBEDS:
        changed = video(ours, callback_on_step_end=replace_at(1, **{name: other[name]}))
        assert relative_error(changed, plain) > 1e-4, name

    seen = []

    def note(_, step, timestep, tensors):
        seen.append((len(tensors["latents"]), tensors["pooled_prompt_embeds"]))
        return {"pooled_prompt_embeds": other["pooled_prompt_embeds"]} if step == 0 else None

    names = ["latents", "pooled_prompt_embeds"]
    video(ours, callback_on_step_end=note, callback_on_step_end_tensor_inputs=names)
    assert [rows for rows, _ in seen] == [1] * 4 + [3] * 4
    assert all((pooled == other["pooled_prompt_embeds"]).all() for _, pooled in seen[1:])


def test_the_old_callback_is_called_at_every_so_many_steps():
    seen = []
    video(ours_with(), callback=lambda step, timestep, latents: seen.append((step, len(latents))), callback_steps=3)
    assert seen == [(0, 1), (3, 1), (6, 3)]


def test_a_run_that_is_stopped_early_has_all_its_frames():
    def stop(pipeline, *_):
        pipeline._interrupt = True

    frames = video(ours_with(), callback_on_step_end=stop)
    assert frames.shape == (1, 3, 3, 16, 16)
    assert torch.equal(frames[:, 0], frames[:, 2])


def test_the_decoder_of_a_float16_file_works_in_float32():
    ours = ours_with()
    expected = video(ours, output_type="latent")
    ours.vae.half()
    latents = expected.flatten(0, 1) / ours.vae.config.scaling_factor
    with torch.no_grad():
        exact = copy.deepcopy(ours.vae).float().decode(latents, return_dict=False)[0]
    torch.testing.assert_close(video(ours)[0], (exact / 2 + 0.5).clamp(0, 1), rtol=1e-5, atol=1e-5)
    assert ours.vae.dtype == torch.float16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"t0": 3}, "0 <= t0 < t1 < 6"),
        ({"frame_ids": [0, 1]}, "2 places for a video_length of 3"),
        ({"denoising_end": 1.5}, "above 0 and at most 1"),
        ({"denoising_end": 0.2}, "before the later frames begin"),
        ({"cross_attention_kwargs": {"scale": 0.5}}, "cross_attention_kwargs has no effect"),
        ({"crops_coords_top_left": (-1, 0)}, "crops_coords_top_left must be two whole numbers of at least 0"),
        ({"original_size": 16}, "original_size must be two whole numbers"),
        ({"prompt_2": ["a", "b"]}, "2 texts were given as prompt_2 for 1 prompts"),
        ({**embeds(), "pooled_prompt_embeds": None}, "prompt_embeds needs pooled_prompt_embeds"),
        ({**embeds(), "negative_pooled_prompt_embeds": None}, "needs negative_pooled_prompt_embeds"),
        ({**embeds(), "prompt_2": "a cat"}, "Both prompt_2 and prompt_embeds"),
        ({"pooled_prompt_embeds": torch.zeros(2, 8)}, "one row for each of the 1 prompts"),
        ({"pooled_prompt_embeds": torch.zeros(1, 9)}, "takes pooled embeddings of 8 values, got 9"),
        ({"clip_skip": 3}, "clip_skip must be between 0 and 2"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        ours_with().request(**{**CALL, **call})


def test_a_network_of_another_family_and_missing_encoders_are_named():
    ours = ours_with()
    ours.text_encoder_2 = ours.tokenizer_2 = None
    with pytest.raises(ValueError, match="pass it and tokenizer_2, or embeddings"):
        video(ours)
    assert video(ours, **embeds()).shape == (1, 3, 3, 16, 16)
    ours.unet = UNet2DConditionModel(**tiny.STABLE_DIFFUSION_UNET)
    with pytest.raises(ValueError, match="not of SDXL"):
        video(ours, **embeds())
