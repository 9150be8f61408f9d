"""Components of a tiny ModelScope with random weights, the same on every run, and clips for it."""

from __future__ import annotations

from typing import Any

import torch

import filmstrip
from tests import tiny
from tests.parity.references import randomise
from tests.tiny_stable_diffusion import WINDOW


def parts(scheduler: str = "DDIMScheduler", **unet: Any) -> dict[str, Any]:
    """Components with random weights."""
    torch.manual_seed(0)
    settings = {**tiny.MODELSCOPE_UNET, **unet}
    return {
        "vae": randomise(filmstrip.AutoencoderKL(**tiny.STABLE_DIFFUSION_AUTOENCODER), spread=0.05),
        "text_encoder": randomise(tiny.clip_text_encoder(length=WINDOW)),
        "tokenizer": tiny.clip_tokenizer(WINDOW),
        "unet": randomise(filmstrip.UNet3DConditionModel(**settings), spread=0.05),
        "scheduler": getattr(filmstrip, scheduler)(steps_offset=1),
    }
