"""Tiny components of Stable Video Diffusion, and pictures for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessor

import filmstrip
from tests import tiny
from tests.parity.references import randomise

SCHEDULE: dict[str, Any] = {  # as the checkpoints have it
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "prediction_type": "v_prediction",
    "sigma_max": 700.0,
    "sigma_min": 0.002,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
}


def parts(**unet: Any) -> dict[str, Any]:
    """Components with random weights."""
    torch.manual_seed(0)
    settings = {**tiny.STABLE_VIDEO_DIFFUSION_UNET, **unet}
    return {
        "vae": randomise(
            filmstrip.AutoencoderKLTemporalDecoder(**tiny.STABLE_VIDEO_DIFFUSION_AUTOENCODER), spread=0.05
        ),
        "image_encoder": randomise(tiny.clip_vision_encoder()),
        "unet": randomise(filmstrip.UNetSpatioTemporalConditionModel(**settings), spread=0.05),
        "scheduler": filmstrip.EulerDiscreteScheduler(**SCHEDULE),
        "feature_extractor": CLIPImageProcessor(),
    }


def picture(seed: int) -> Image.Image:
    """Noise of no legal size."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (33, 47, 3), dtype=np.uint8))
