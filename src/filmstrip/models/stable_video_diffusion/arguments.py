"""What a call of Stable Video Diffusion takes, and what its requests and conditions are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from torch import Tensor

from filmstrip.checks import check_whole_number, known
from filmstrip.generation.arguments import Arguments, InTurn, Lasting, Noised, Sized, Watched, argument
from filmstrip.generation.conditions import Rows
from filmstrip.generation.request import Request
from filmstrip.records import record

LARGEST_BUCKET = 255


@dataclass(frozen=True, eq=False)
class FirstFrame(Arguments):
    """The picture that a video begins with."""

    image: Any = argument(
        "the picture that the video begins with: a picture, an array or a tensor; a list makes a batch. It is resized.",
        role="picture",
        instead="continue_from",
    )


@record("stable video diffusion arguments")
@dataclass(frozen=True, eq=False)
class VideoArguments(InTurn, Watched, Noised, Lasting, Sized, FirstFrame):
    """What image to video takes."""

    sigmas: Sequence[float] | None = argument("a falling schedule of one's own, as noise levels.")
    min_guidance_scale: float | None = argument("how strongly the first frame follows the picture.")
    max_guidance_scale: float | None = argument(
        "the same of the last frame; between them it rises or falls by equal amounts. 1 for both is no guidance, at"
        " half the cost."
    )
    fps: float | None = argument("frames a second that the motion is meant for, from 1 up.", role="rate")
    motion_bucket_id: float | None = argument("how much motion; networks were trained on 0 (hardly any) to 255.")
    noise_aug_strength: float | None = argument(
        "standard deviation of the noise that is added to the picture, whose pixels are in [-1, 1]; with more, the"
        " video keeps less closely to it, and moves more."
    )
    decode_chunk_size: int | None = argument(
        "frames that are decoded together, for less memory; None: all, which leaves no joints.", range="count"
    )
    num_videos_per_prompt: int = argument("videos of each picture, which differ in their noise.", 1, range="count")
    _: KW_ONLY
    decode_overlap: int = argument(
        "frames that each chunk sees beyond its own on either side, which softens the joints; used with"
        " `decode_chunk_size`.",
        0,
    )
    continue_from: Tensor | None = argument(
        'latents of a clip to go on from, as `output_type="latent"` gives them: its last frame takes the place of the'
        " picture, without being decoded and encoded again. A picture that is given as well is seen by CLIP alone."
    )
    latents: Tensor | None = argument("the initial noise, (batch, frames, channels, height / 8, width / 8).")

    @property
    def guidance(self) -> float:
        """How strongly the last frame follows the picture."""
        return known(self.max_guidance_scale)

    def guides_at(self, scale: float) -> bool:
        """Whether any frame is guided, where this is the scale of the last one."""
        return max(known(self.min_guidance_scale), scale) > 1

    @property
    def videos_per_picture(self) -> tuple[str, int]:
        """The name of the argument that says how many there are of each picture, and its value."""
        return "num_videos_per_prompt", self.num_videos_per_prompt

    def check(self) -> None:
        """See that the numbers make sense."""
        if not known(self.fps) >= 1:
            raise ValueError(f"fps must be at least 1 frame a second, got {self.fps:g}; the usual is 7.")
        if not known(self.noise_aug_strength) >= 0:
            got = self.noise_aug_strength
            raise ValueError(f"noise_aug_strength must be at least 0, got {got}; the usual is 0.02.")
        check_whole_number("decode_overlap", self.decode_overlap, at_least=0)
        if self.decode_overlap and self.decode_chunk_size is None:
            raise ValueError("decode_overlap has no effect without decode_chunk_size; drop it, or name a chunk size.")
        if self.image is None and self.continue_from is None:
            raise ValueError("Image to video needs an image, and none was given; pass the picture to begin with.")


@record("stable video diffusion request")
@dataclass(frozen=True, eq=False, kw_only=True)
class VideoRequest(Request[VideoArguments]):
    """What a run is to do."""

    pixels: Tensor | None = None  # of the pictures, (pictures, 3, height, width) in [-1, 1]
    small_pixels: Tensor | None = None  # the same as CLIP sees them, (pictures, 3, side, side)


@dataclass(frozen=True)
class Conditions(Rows):
    """What a run is conditioned on; one row for each video."""

    image_embeds: Tensor  # (videos, 1, dim)
    image_latents: Tensor  # not scaled, (videos, channels, height, width)
    time_ids: Tensor  # frame rate less 1, motion bucket and strength of the noise, (videos, 3)
