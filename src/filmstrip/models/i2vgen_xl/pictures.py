"""Pictures as I2VGen-XL takes them: cropped around their middle, for the autoencoder and for CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from PIL.Image import Resampling
from torch import Tensor

from filmstrip.media.levels import once, to_rgb, warn
from filmstrip.media.pixels import picture_size, preprocess_image, video_to_output

CLIP_SIDE = 224
# What CLIP was trained with (arXiv:2103.00020), where no image processor says it.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


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


def seen_by_clip(pictures: Sequence[Image.Image], width: int, side: int) -> Tensor:
    """Pictures in [-1, 1] as squares, (pictures, 3, side, side), by way of squares as wide as the video."""
    squares = [cropped(one, width, width).resize((side, side), Resampling.BILINEAR) for one in pictures]
    return preprocess_image(squares, side, side)


def normalized_for_clip(pixels: Tensor, processor: Any) -> Tensor:
    """Pictures in [-1, 1] with the mean and deviation of each channel that CLIP was trained with."""
    mean, std = getattr(processor, "image_mean", MEAN), getattr(processor, "image_std", STD)
    means, stds = (pixels.new_tensor(values)[:, None, None] for values in (mean, std))
    return (pixels / 2 + 0.5 - means) / stds
