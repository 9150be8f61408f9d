"""Components of a tiny Stable Diffusion with random weights, the same on every run."""

from __future__ import annotations

from typing import Any

import torch

import filmstrip
from tests import tiny
from tests.parity.references import randomise

WINDOW = 64
CONTROL: dict[str, Any] = {
    **{
        name: value
        for name, value in tiny.STABLE_DIFFUSION_UNET.items()
        if name not in ("sample_size", "up_block_types")
    },
    "conditioning_embedding_out_channels": (4, 8),
}


def parts(scheduler: str = "DDIMScheduler", **unet: Any) -> dict[str, Any]:
    """Components with random weights."""
    torch.manual_seed(0)
    settings = {**tiny.STABLE_DIFFUSION_UNET, **unet}
    return {
        "vae": randomise(filmstrip.AutoencoderKL(**tiny.STABLE_DIFFUSION_AUTOENCODER), spread=0.05),
        "text_encoder": randomise(tiny.clip_text_encoder(length=WINDOW)),
        "tokenizer": tiny.clip_tokenizer(WINDOW),
        "unet": randomise(filmstrip.UNet2DConditionModel(**settings), spread=0.05),
        "scheduler": getattr(filmstrip, scheduler)(steps_offset=1),
    }


def controlnet(seed: int) -> Any:
    return randomise(filmstrip.ControlNetModel(**CONTROL), seed, spread=0.1)


def xl_parts() -> dict[str, Any]:
    """Components of the large model, which has two text encoders."""
    torch.manual_seed(0)
    second = tiny.clip_tokenizer(WINDOW)
    return {
        **parts(**tiny.STABLE_DIFFUSION_XL_UNET),
        "tokenizer_2": second,
        "text_encoder_2": randomise(tiny.clip_text_encoder_with_projection(length=WINDOW)),
    }
