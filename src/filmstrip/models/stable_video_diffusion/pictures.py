"""Pictures as Stable Video Diffusion's two encoders take them."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from filmstrip.media.pixels import picture_size, preprocess_image
from filmstrip.models.stable_video_diffusion.resizing import resized_for_clip

CLIP_SIDE = 224


def read_pictures(image: Any, height: int, width: int, side: int) -> tuple[Tensor, Tensor]:
    """Pictures in [-1, 1] as large as the video, (pictures, 3, height, width), and as squares for CLIP.

    The squares are made of the pictures as they were given, by the authors' way; see `resized_for_clip`.

    Args:
        image: as `preprocess_image` takes them.
    """
    pixels = preprocess_image(image, height, width)  # says what is wrong with a picture
    several = list(image) if isinstance(image, (list, tuple)) else [image]
    if all(isinstance(one, Image.Image) for one in several) or len({picture_size(one) for one in several}) > 1:
        groups = several
    else:
        groups = [image]  # whose range of numbers is found of all together
    small = [resized_for_clip(preprocess_image(one, *picture_size(one)), side) for one in groups]
    return pixels, torch.cat(small)
