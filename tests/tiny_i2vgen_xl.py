"""Components of a tiny I2VGen-XL with random weights, the same on every run, and pictures for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessor

import filmstrip
from tests import tiny
from tests.parity.references import randomise
from tests.tiny_stable_diffusion import WINDOW

SIDE = 32  # of the pictures that the image encoder sees


def parts(scheduler: str = "DDIMScheduler", **unet: Any) -> dict[str, Any]:
    """Components with random weights."""
    torch.manual_seed(0)
    settings = {**tiny.MODELSCOPE_UNET, **unet}
    return {
        "vae": randomise(filmstrip.AutoencoderKL(**tiny.STABLE_DIFFUSION_AUTOENCODER), spread=0.05),
        "text_encoder": randomise(tiny.clip_text_encoder(length=WINDOW)),
        "tokenizer": tiny.clip_tokenizer(WINDOW),
        "image_encoder": randomise(tiny.clip_vision_encoder(side=SIDE)),
        "feature_extractor": image_processor(),
        "unet": randomise(filmstrip.I2VGenXLUNet(**settings), spread=0.05),
        "scheduler": getattr(filmstrip, scheduler)(steps_offset=1),
    }


def image_processor() -> Any:
    sides = {"height": SIDE, "width": SIDE}
    return CLIPImageProcessor(crop_size=sides, size={"shortest_edge": SIDE})


def picture(seed: int = 0, width: int = 12, height: int = 16) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (height // 2, width // 2, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((width, height))
