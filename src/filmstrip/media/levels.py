"""What pictures and arrays hold, as 8-bit RGB: one rule for each depth, for floats, and for transparency.

- 16 bits (pictures of the modes I;16 and I, arrays of uint16) are scaled by the whole of their range, 0 to 65535, and
  bool is black and white; other whole numbers are refused, since their range can't be known.
- A grey picture of floats (mode F: depth, masks) is in [0, 1], or in [0, 255] if anything in it is above 1.25.
- Float arrays are in [0, 1] or, going into a network, in [-1, 1] if any of them is negative.
- Transparent parts are shown on white, as pages and viewers do, so that no hidden colour comes out; four channels are
  RGBA.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

# Resampling overshoots [0, 1] a little, which is clipped; a video in [-1, 1] or [0, 255] goes well beyond this.
OVERSHOOT = 0.25
_FARTHEST = 8.0  # of what has negative values: standardised pixels, or noise in the place of a picture
WHITE = 255
ON_WHITE = "Transparent parts of what was given are shown on white."
_SIXTEEN_BITS = 65535
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")

Say = Callable[[str], None]


def once(tell: Say) -> Say:
    """Something that tells each sentence only once, for the frames of one video."""
    told: set[str] = set()

    def tell_new(sentence: str) -> None:
        if sentence not in told:
            told.add(sentence)
            tell(sentence)

    return tell_new


def warn(sentence: str) -> None:
    """Say what a user has to know; a job has it as a note."""
    logger.warning(sentence)


# ---- pictures --------------------------------------------------------------------------------------------------------


def to_rgb(picture: Image.Image, tell: Say = warn) -> Image.Image:
    """Any picture in RGB, by the rules above.

    Args:
        tell: is handed a sentence about what a user may not expect.

    Raises:
        ValueError: its levels can't be known.
    """
    if picture.mode == "RGB":
        return picture
    if picture.mode in _WITH_ALPHA or (picture.mode == "P" and "transparency" in picture.info):
        return Image.fromarray(on_white(np.asarray(_as_rgba(picture)), tell))
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        return Image.fromarray(_grey_levels(picture)).convert("RGB")
    try:
        return picture.convert("RGB")
    except ValueError as error:
        raise ValueError(
            f"a picture of the mode {picture.mode} can't be made RGB: {error}; convert it first."
        ) from error


def with_own_alpha(picture: Image.Image) -> Image.Image:
    """A picture as it was read from a file, with the colour that the file calls transparent as an alpha channel.

    Only a file's own word is taken: pictures that were converted keep it, but their colours mean something else.
    """
    colour = picture.info.get("transparency")
    if colour is None or picture.mode in ("P", "PA", *_WITH_ALPHA):
        return picture
    if picture.mode.startswith("I;16"):
        values = np.asarray(picture)
        opaque = np.where(values == colour, 0, 255).astype(np.uint8)
        return Image.merge("LA", [Image.fromarray(_grey_levels(picture)), Image.fromarray(opaque)])
    return picture.convert("RGBA")


def _as_rgba(picture: Image.Image) -> Image.Image:
    if picture.mode == "La":
        picture = picture.convert("LA")
    return picture.convert("RGBA")


def _grey_levels(picture: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(picture)
    low, high = _ends(values)
    if picture.mode == "F":
        if not (low >= -OVERSHOOT and high <= WHITE + OVERSHOOT):
            raise ValueError(
                f"a grey picture of floats (mode F) must be in [0, 1] or in [0, 255], got {low:.3g} to {high:.3g}; "
                "scale it, or convert it to 8 bits."
            )
        scale = WHITE if high <= 1 + OVERSHOOT else 1
        return np.rint(values * scale).clip(0, WHITE).astype(np.uint8)
    if picture.mode == "I":
        if low < 0 or high > _SIXTEEN_BITS:
            raise ValueError(
                f"a picture of whole numbers (mode I) must be in 0 to {_SIXTEEN_BITS}, which is 16 bits, "
                f"got {low:.0f} to {high:.0f}; scale it, or convert it to 8 bits."
            )
        if 0 < high <= WHITE:
            raise ValueError(
                f"a picture of whole numbers (mode I) from {low:.0f} to {high:.0f} may have 8 bits or 16; "
                'give it as 8 bits (mode "L") or as 16 bits (mode "I;16").'
            )
    return _eight_of_sixteen(values)


# ---- arrays ----------------------------------------------------------------------------------------------------------


def whole_levels(planes: NDArray[Any], said: str) -> NDArray[np.uint8]:
    """8-bit levels of an array of whole numbers or bool.

    Args:
        said: what holds it, for messages: "frame 3".
    """
    if planes.dtype == np.uint8:
        return planes
    if planes.dtype == np.bool_:
        return planes.astype(np.uint8) * np.uint8(WHITE)
    if planes.dtype == np.uint16:
        return _eight_of_sixteen(planes)
    raise ValueError(
        f"pixels must be uint8, uint16, bool, or floats in [0, 1]; got {planes.dtype} in {said}, whose range can't be "
        "known; convert it to one of them."
    )


def check_floats(low: float, high: float, said: str, *, is_symmetric: bool = False) -> None:
    """See that floats are pixels.

    Args:
        said: what holds them, for messages: "frame 3".
        is_symmetric: whether negative values make the range [-1, 1], which networks take.

    Raises:
        ValueError: they can't be, or one of them is NaN.
    """
    if low != low or high != high:
        raise ValueError(f"{said} holds NaN: whatever computed it went wrong, so it is not used; compute it again.")
    least, most = (-_FARTHEST, _FARTHEST) if is_symmetric else (-OVERSHOOT, 1 + OVERSHOOT)
    if low < least or high > most:
        allowed = "[0, 1], or in [-1, 1] if some are negative," if is_symmetric else "[0, 1],"
        remedy = "" if is_symmetric else "(video + 1) / 2 for a video in [-1, 1], and "
        raise ValueError(
            f"floats as pixels must be in {allowed} got {low:.3g} to {high:.3g} in {said}; "
            f"give {remedy}uint8 for one in [0, 255]."
        )


def on_white(pixels: NDArray[np.uint8], tell: Say = warn) -> NDArray[np.uint8]:
    """RGB of uint8 pixels (..., 4), whose last channel is alpha."""
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    if (alpha == WHITE).all():
        return np.ascontiguousarray(colours)
    tell(ON_WHITE)
    wide = alpha.astype(np.uint32)
    return ((colours * wide + WHITE * (WHITE - wide) + WHITE // 2) // WHITE).astype(np.uint8)


def _eight_of_sixteen(values: NDArray[Any]) -> NDArray[np.uint8]:
    # The nearest of 256 levels: 65535 is 255 x 257.
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _ends(values: NDArray[Any]) -> tuple[float, float]:
    return float(values.min()), float(values.max())
