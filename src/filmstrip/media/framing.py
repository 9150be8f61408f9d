"""Pictures of other proportions than the video: cropped, bordered or stretched."""

from __future__ import annotations

from PIL import Image

from filmstrip.json_files import shown

FITS = ("crop", "pad", "stretch")
"""Lose what is too much on two sides, evenly; add black borders on two sides, evenly; change the proportions."""
LANCZOS = Image.Resampling.LANCZOS


def check_fit(fit: object) -> str:
    """One of `FITS`.

    Raises:
        ValueError: it is something else.
    """
    if fit not in FITS:
        raise ValueError(f"a picture is fitted to the video by {', '.join(FITS[:-1])} or {FITS[-1]}, got {shown(fit)}.")
    return str(fit)


def scaled(
    picture: Image.Image, width: int, height: int, fit: str, resample: Image.Resampling = LANCZOS
) -> Image.Image:
    """A picture in that size, or for "pad" as large as it fits into that size."""
    own_width, own_height = picture.size
    if fit == "crop":
        # The largest part of these proportions, in the middle.
        part_width = min(own_width, own_height * width / height)
        part_height = min(own_height, own_width * height / width)
        left, top = (own_width - part_width) / 2, (own_height - part_height) / 2
        return picture.resize((width, height), resample, box=(left, top, left + part_width, top + part_height))
    if fit == "pad":
        scale = min(width / own_width, height / own_height)
        width, height = max(1, round(own_width * scale)), max(1, round(own_height * scale))
    return picture.resize((width, height), resample)


def bordered(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A picture in the middle of a black one of that size; black, as players show what does not fill a screen."""
    if picture.size == (width, height):
        return picture
    whole = Image.new(picture.mode, (width, height))
    whole.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    return whole
