"""Pictures as I2VGen-XL takes them: cropped around their middle, for the autoencoder and for CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.Image import Resampling
from torch import Tensor

from filmstrip.media.levels import once, to_rgb, warn
from filmstrip.media.pixels import picture_size, preprocess_image, video_to_output


def pictures_in(image: Any) -> list[Image.Image]:
    """What was given, as pictures in RGB.

    Args:
        image: as `preprocess_image` takes it, but pictures need not be equally large.
    """
    several = list(image) if isinstance(image, (list, tuple)) else [image]
    if not several:
        raise ValueError("no picture was given; give at least one.")
    tell = once(warn)
    found = []
    for one in several:
        if isinstance(one, Image.Image):
            found.append(to_rgb(one, tell))
        else:
            pixels = preprocess_image(one, *picture_size(one))  # (pictures, 3, height, width)
            found += [frames[0] for frames in video_to_output(pixels.unsqueeze(2))]
    return found


def cropped(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A picture scaled, by averages, until it just covers that size, and cut to it around its middle."""
    covering = _covering(picture, width, height)
    left, top = (covering[0] - width) // 2, (covering[1] - height) // 2
    return picture.resize(covering, Resampling.BOX).crop((left, top, left + width, top + height))


def _covering(picture: Image.Image, width: int, height: int) -> tuple[int, int]:
    """The least size with the picture's proportions that covers another one, rounded down."""
    own_width, own_height = picture.size
    # In whole numbers: a quotient that falls short of its value would leave a black line.
    if own_width * height >= own_height * width:
        return own_width * height // own_height, height
    return width, own_height * width // own_width


def crop_notes(pictures: Sequence[Image.Image], width: int, height: int) -> list[str]:
    """What of pictures that have other proportions than the video is not used, a sentence for each size."""
    cut = dict.fromkeys(one.size for one in pictures if _covering(one, width, height) != (width, height))
    return [
        f"The picture is {own_width}x{own_height} and the video {width}x{height}: what is too much of the picture is"
        f" cut off, evenly on two sides."
        for own_width, own_height in cut
    ]


def seen_by_autoencoder(pictures: Sequence[Image.Image], width: int, height: int) -> Tensor:
    """Pictures in [-1, 1] as large as the video, (pictures, 3, height, width)."""
    return preprocess_image([cropped(one, width, height) for one in pictures], height, width)


def squares_of(pictures: Sequence[Image.Image], width: int) -> Tensor:
    """Pictures as squares as wide as the video, uint8, (pictures, width, width, 3): what CLIP's are made of."""
    return torch.stack([torch.from_numpy(np.array(cropped(one, width, width))) for one in pictures])


def seen_by_clip(squares: Tensor, side: int) -> Tensor:
    """Squares of `squares_of` in [-1, 1] as large as CLIP takes them, (pictures, 3, side, side)."""
    small = [Image.fromarray(one.numpy()).resize((side, side), Resampling.BILINEAR) for one in squares]
    return preprocess_image(small, side, side)
