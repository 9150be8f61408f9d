"""Whole runs of two steps at full width: the memory that a plan predicts for each stage, and what the stage took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from _gpu_works import SMALL_LTX_DECODER, Setting, config_of

import filmstrip
from filmstrip import devices
from filmstrip.generation import run
from filmstrip.generation.footprint import FullTokenizer

MEMORY = "64GB"
STEPS = 2


def network(kind: str, family: str, checkpoint: str, component: str, setting: Setting, **changes: Any) -> Any:
    """A network of a released width on the device, with random weights."""
    config = config_of(family, checkpoint, component) | (changes if setting.miniature else {})
    with torch.device(setting.device):
        made = getattr(filmstrip, kind).from_config(config)
    dtype = torch.float16 if family == "stable_diffusion" and not setting.miniature else torch.bfloat16
    return made.to(setting.device, dtype).eval()


def text_encoder(width: int, setting: Setting) -> Any:
    """A small one: prompts are given as embeddings, as wide as the released encoders'."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=64, d_model=width, d_kv=16, d_ff=64, num_layers=1, num_heads=2)
    return T5EncoderModel(config).to(setting.device, torch.bfloat16).eval()


def embeddings(tokens: int, width: int, setting: Setting) -> dict[str, Any]:
    names = ("prompt_embeds", "negative_prompt_embeds")
    return {name: setting.normal(1, tokens, width, dtype=torch.bfloat16) for name in names}


def ltx(setting: Setting) -> tuple[Any, dict[str, Any]]:
    """161 frames of 704x512."""
    small = {"num_attention_heads": 2, "attention_head_dim": 16, "cross_attention_dim": 32, "caption_channels": 16}
    width = setting.pick(4096, 16)
    pipeline = filmstrip.LTXPipeline(
        filmstrip.FlowMatchEulerDiscreteScheduler(),
        network("AutoencoderKLLTXVideo", "ltx", "ltx-video", "vae", setting, **SMALL_LTX_DECODER),
        text_encoder(width, setting),
        None,
        network("LTXVideoTransformer3DModel", "ltx", "ltx-video", "transformer", setting, **small, num_layers=2),
    )
    masks = ("prompt_attention_mask", "negative_prompt_attention_mask")
    call = {
        **embeddings(128, width, setting),
        **{name: torch.ones(1, 128, device=setting.device) for name in masks},
        "height": setting.pick(512, 64),
        "width": setting.pick(704, 96),
        "num_frames": setting.pick(161, 9),
    }
    return pipeline, call


def cogvideox(setting: Setting) -> tuple[Any, dict[str, Any]]:
    """49 frames of 720x480."""
    small = {"num_attention_heads": 2, "attention_head_dim": 16, "time_embed_dim": 8, "text_embed_dim": 16}
    sizes = {"sample_height": 4, "sample_width": 6, "num_layers": 2}
    decoder = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 2}
    width, name = setting.pick(4096, 16), "cogvideox-2b"
    pipeline = filmstrip.CogVideoXPipeline(
        None,
        text_encoder(width, setting),
        network("AutoencoderKLCogVideoX", "cogvideox", name, "vae", setting, **decoder),
        network("CogVideoXTransformer3DModel", "cogvideox", name, "transformer", setting, **small, **sizes),
        filmstrip.CogVideoXDDIMScheduler(),
    )
    call = {
        **embeddings(226, width, setting),
        "height": setting.pick(480, 32),
        "width": setting.pick(720, 48),
        "num_frames": setting.pick(49, 9),
    }
    return pipeline, call


def text2video_zero(setting: Setting) -> tuple[Any, dict[str, Any]]:
    """8 frames of 512x512."""
    small = {"block_out_channels": (32, 32, 64, 64), "cross_attention_dim": 32, "layers_per_block": 1}
    decoder = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}
    name = "stable-diffusion-v1-5"
    encoder = text_encoder(setting.pick(768, 32), setting)
    pipeline = filmstrip.TextToVideoZeroPipeline(
        vae=network("AutoencoderKL", "stable_diffusion", name, "vae", setting, **decoder),
        text_encoder=encoder.to(setting.pick(torch.float16, torch.bfloat16)),
        tokenizer=FullTokenizer(encoder),  # there are no vocabularies here
        unet=network("UNet2DConditionModel", "stable_diffusion", name, "unet", setting, **small),
        scheduler=filmstrip.DDIMScheduler(clip_sample=False),
    )
    side = setting.pick(512, 64)
    frames = {"video_length": setting.pick(8, 2), "t0": 1, "t1": 2, "num_inference_steps": 4}
    return pipeline, {"prompt": "a", "height": side, "width": side, **frames}


RUNS: dict[str, Callable[[Setting], tuple[Any, dict[str, Any]]]] = {
    "ltx-2b run": ltx,
    "cogvideox-2b run": cogvideox,
    "text2video-zero run": text2video_zero,
}


def measured(name: str, setting: Setting) -> Iterator[dict[str, Any]]:
    """What each stage of a run was predicted to need and took, weights included, and its seconds."""
    pipeline, call = RUNS[name](setting)
    pipeline.set_progress_bar_config(disable=True)
    call = {"num_inference_steps": STEPS, **call, "output_type": "pt"}
    begin = time.perf_counter()
    plan = pipeline.fit(MEMORY, device=setting.device, is_quiet=True, **call)
    planning = time.perf_counter() - begin
    for _ in range(2):  # the first run loads kernels
        peaks, seconds = stages(pipeline, call, setting.device)
    others = sum(tensor.nbytes for tensor in call.values() if isinstance(tensor, torch.Tensor))
    for stage, need in plan.needs.items():
        row = {"stage": stage, "predicted": need, "measured": max(0, peaks.get(stage, 0) - others)}
        yield {**row, "seconds": seconds.get(stage, 0.0), "planning_seconds": planning}


def stages(pipeline: Any, call: dict[str, Any], device: torch.device) -> tuple[dict[str, int], dict[str, float]]:
    """The most bytes on the device in each stage of a run, and its seconds."""
    on_cpu = device.type == "cpu"
    peaks: dict[str, int] = {}
    seconds: dict[str, float] = {}
    begin, lap = partial(devices.reset_peak_memory, device), time.perf_counter()
    devices.empty_cache(device)
    begin()
    # An event comes when its stage has done its work; what follows until the next one is the next one's.
    request = pipeline.request(generator=torch.Generator().manual_seed(0), **call)
    for event in run(pipeline, request, collect=False):
        devices.synchronize(device)
        stage = "decode" if event.stage in ("decode", "done") else event.stage
        peaks[stage] = max(peaks.get(stage, 0), 0 if on_cpu else devices.peak_memory(device))
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - lap
        lap = time.perf_counter()
        begin()
    return peaks, seconds
