"""The pipelines of LTX-Video give the reference's frames."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel as ReferenceUpsampler
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition as ReferenceCondition
from PIL import Image

import filmstrip
from tests import tiny
from tests.parity.references import randomise, relative_error, transplant

TOLERANCE = 1e-4
SCHEDULERS: dict[str, dict[str, Any]] = {
    "static": {},
    "shifted": {"shift": 3.0},
    "dynamic": {"use_dynamic_shifting": True, "base_shift": 0.95, "max_shift": 2.05, "shift_terminal": 0.1},
    "karras": {"use_karras_sigmas": True},
}


def pair(name: str, *, timed: bool = False, scheduler: str = "static") -> tuple[Any, Any]:
    """A pipeline of ours and one of the reference's that share their weights."""
    settings = tiny.LTX_TIMED_AUTOENCODER if timed else tiny.LTX_AUTOENCODER
    transformer = randomise(diffusers.LTXVideoTransformer3DModel(**tiny.LTX_TRANSFORMER), spread=0.1)
    vae = randomise(diffusers.AutoencoderKLLTXVideo(**settings), spread=0.1)
    shared = {"text_encoder": tiny.text_encoder(), "tokenizer": tiny.tokenizer()}
    reference = getattr(diffusers, name)(
        transformer=transformer,
        vae=vae,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**SCHEDULERS[scheduler]),
        **shared,
    )
    reference.set_progress_bar_config(disable=True)
    ours = getattr(filmstrip, name)(
        transformer=transplant(filmstrip.LTXVideoTransformer3DModel(**tiny.LTX_TRANSFORMER), transformer),
        vae=transplant(filmstrip.AutoencoderKLLTXVideo(**settings), vae),
        scheduler=filmstrip.FlowMatchEulerDiscreteScheduler(**SCHEDULERS[scheduler]),
        **shared,
    )
    return ours, reference


def frames_of_both(ours: Any, reference: Any, **call: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What both make of one call; the reference's decoder injects noise from the global stream."""
    size = 64 if ours.vae.spatial_compression_ratio == 32 else 32
    call = {"height": size, "width": size, "num_frames": 9, "num_inference_steps": 3, "output_type": "pt", **call}
    outputs = []
    for pipeline in (ours, reference):
        generator = torch.Generator().manual_seed(7)
        outputs.append(pipeline(**call, generator=generator).frames)
    return outputs[0], outputs[1]


def picture(seed: int = 0, size: int = 40) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size + 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


CALLS: dict[str, dict[str, Any]] = {
    "guided": {"prompt": "a cat", "negative_prompt": "blurry and dull"},
    "unguided": {"prompt": "a cat", "guidance_scale": 1.0},
    "rescaled": {"prompt": "a cat", "guidance_scale": 5.0, "guidance_rescale": 0.7},
    "two prompts": {"prompt": ["a cat", "two dogs in the rain"]},
    "two videos": {"prompt": "a cat", "num_videos_per_prompt": 2},
    "longer, at another rate": {"prompt": "a cat", "num_frames": 25, "frame_rate": 12, "width": 96},
    "latents": {"prompt": "a cat", "output_type": "latent"},
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_text_to_video_agrees_under_every_schedule(scheduler):
    assert relative_error(*frames_of_both(*pair("LTXPipeline", scheduler=scheduler), **CALLS["guided"])) < TOLERANCE


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_text_to_video_agrees(call):
    assert relative_error(*frames_of_both(*pair("LTXPipeline"), **call)) < TOLERANCE


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_image_to_video_agrees(call):
    pipelines = pair("LTXImageToVideoPipeline", scheduler="dynamic")
    assert relative_error(*frames_of_both(*pipelines, image=picture(), **call)) < TOLERANCE


@pytest.mark.parametrize("name", ["LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline"])
@pytest.mark.parametrize(
    "decoding", [{}, {"decode_timestep": 0.05}, {"decode_timestep": 0.1, "decode_noise_scale": 0.3}]
)
def test_a_decoder_that_takes_a_timestep_agrees(name, decoding):
    ours, reference = pair(name, timed=True)
    for vae in (ours.vae, reference.vae):
        silence_injected_noise(vae)
    images = {} if name == "LTXPipeline" else {"image": picture()}
    assert relative_error(*frames_of_both(ours, reference, prompt="a cat", **images, **decoding)) < TOLERANCE


def silence_injected_noise(vae):
    """The reference draws it from the global stream, which no seed of a run reaches."""
    for name, parameter in vae.named_parameters():
        if "per_channel_scale" in name:
            parameter.data.zero_()


CONDITIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "first frame": {"image": picture()},
    "weak first frame": {"image": picture(), "strength": 0.6, "image_cond_noise_scale": 0.0},
    "a frame inside": {"image": picture(), "frame_index": 8, "num_frames": 17},
    "unguided": {"image": picture(), "guidance_scale": 1.0},
    "rescaled": {"image": picture(), "guidance_rescale": 0.5},
}


@pytest.mark.parametrize("call", CONDITIONS.values(), ids=CONDITIONS.keys())
def test_conditions_agree(call):
    pipelines = pair("LTXConditionPipeline")
    assert relative_error(*frames_of_both(*pipelines, prompt="a cat", **call)) < TOLERANCE


@pytest.mark.parametrize("frame_index", [0, 8])
@pytest.mark.parametrize("length", [9, 14, 17])
def test_clips_and_pictures_together_agree(frame_index, length):
    ours, reference = pair("LTXConditionPipeline")
    clip = [picture(seed) for seed in range(length)]

    def conditions(kind):
        return [kind(video=clip, frame_index=frame_index, strength=0.9), kind(image=picture(99), frame_index=20)]

    call = {"prompt": "a cat", "height": 32, "width": 32, "num_frames": 33, "num_inference_steps": 3}
    results = [
        pipeline(**call, conditions=conditions(kind), output_type="pt", generator=torch.Generator().manual_seed(3))
        for pipeline, kind in ((ours, filmstrip.LTXVideoCondition), (reference, ReferenceCondition))
    ]
    assert relative_error(results[0].frames, results[1].frames) < TOLERANCE


def test_changing_a_video_agrees():
    pipelines = pair("LTXConditionPipeline")
    latents = torch.randn(1, 8, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    call = {"latents": latents, "denoise_strength": 0.5, "num_inference_steps": 6, "image": picture()}
    assert relative_error(*frames_of_both(*pipelines, prompt="a cat", **call)) < TOLERANCE


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize(
    "call", [{}, {"adain_factor": 0.6, "tone_map_compression_ratio": 0.4}, {"output_type": "latent"}]
)
@pytest.mark.parametrize("start", ["video", "latents"])
def test_upsampling_agrees(timed, call, start):
    ours, reference = pair("LTXPipeline", timed=timed)
    for vae in (ours.vae, reference.vae):
        silence_injected_noise(vae)
    config = {"in_channels": 8, "mid_channels": 32, "num_blocks_per_stage": 1}
    network = randomise(ReferenceUpsampler(**config))
    theirs = diffusers.LTXLatentUpsamplePipeline(reference.vae, network)
    upsample = filmstrip.LTXLatentUpsamplePipeline(
        ours.vae, transplant(filmstrip.LTXLatentUpsamplerModel(**config), network)
    )
    if start == "video":
        call = {**call, "video": [picture(seed) for seed in range(9)], "height": 64, "width": 64}
    else:
        call = {**call, "latents": torch.randn(1, 8, 2, 2, 3, generator=torch.Generator().manual_seed(2))}
    frames = [
        pipeline(**{"output_type": "pt", **call}, generator=torch.Generator().manual_seed(3)).frames
        for pipeline in (upsample, theirs)
    ]
    assert relative_error(*frames) < TOLERANCE
