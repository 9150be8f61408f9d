"""Pictures and clips that a video of LTX is made around, and where their latents go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from filmstrip.checks import check_share, one_each
from filmstrip.generation.packing import pack_latents
from filmstrip.generation.request import Request
from filmstrip.generation.resolve import Resolved
from filmstrip.generation.session import Session
from filmstrip.media.pixels import preprocess_image, preprocess_video
from filmstrip.models.ltx.transformer import BASE_GRID
from filmstrip.randomness import draw_noise
from filmstrip.records import record

# Of a clip that does not begin the video, so many latent frames become tokens of their own, which overlap those of the
# video; its later frames are written into the video's own tokens.
PREFIX_FRAMES = 2


@record("ltx condition")
@dataclass
class LTXVideoCondition:
    """A picture or a clip, the frame it stands at, and how strongly it holds: from 0 (ignored) to 1 (kept)."""

    image: Any = None
    video: Any = None
    frame_index: int = 0
    strength: float = 1.0

    def check(self, size: Resolved) -> None:
        """See that it fits into a video of this size.

        Raises:
            ValueError: it names nothing or two things, or lies outside.
        """
        if (self.image is None) == (self.video is None):
            raise ValueError("A condition has either an image or a video; give one of them.")
        check_share("strength", self.strength)
        if not 0 <= self.frame_index < size.generated_frames:
            last = size.generated_frames - 1
            raise ValueError(f"frame_index must be between 0 and {last}, the last frame, got {self.frame_index}.")


@dataclass(frozen=True)
class ConditionedLatents:
    """Tokens to denoise: first those that only condition, then the video's own."""

    latents: Tensor  # (batch, tokens, channels)
    strengths: Tensor  # (1, tokens), how strongly each is kept
    coordinates: Tensor  # (1, 3, tokens), shares of the base grid
    num_extra: int
    has_conditions: bool


def gather_conditions(
    conditions: LTXVideoCondition | Sequence[LTXVideoCondition] | None,
    image: Any,
    video: Any,
    frame_index: int | Sequence[int],
    strength: float | Sequence[float],
) -> list[LTXVideoCondition]:
    """The conditions of a call, however they were given.

    Raises:
        ValueError: they were given in two ways, or in numbers that do not match.
    """
    is_given = image is not None or video is not None
    if conditions is not None and is_given:
        raise ValueError("Both conditions and image or video were given; put all of them into conditions.")
    for name, value, default in (("frame_index", frame_index, 0), ("strength", strength, 1)):
        if not is_given and value != default:
            raise ValueError(f"{name} has no effect without image or video; each of conditions has its own.")
    if conditions is not None:
        return [conditions] if isinstance(conditions, LTXVideoCondition) else list(conditions)
    images = [] if image is None else list(image) if isinstance(image, (list, tuple)) else [image]
    clips = [] if video is None else list(video) if _holds_clips(video) else [video]
    count = len(images) + len(clips)
    places = one_each("frame_index", frame_index, count, "pictures and clips")
    strengths = one_each("strength", strength, count, "pictures and clips")
    given = [*({"image": one} for one in images), *({"video": one} for one in clips)]
    return [
        LTXVideoCondition(**one, frame_index=place, strength=much)
        for one, place, much in zip(given, places, strengths, strict=True)
    ]


def _holds_clips(video: Any) -> bool:
    """Whether it is a list of clips and not one clip."""
    if not isinstance(video, (list, tuple)) or not video:
        return False
    return isinstance(video[0], (list, tuple)) or getattr(video[0], "ndim", 0) == 4


def read_conditions(
    conditions: Sequence[LTXVideoCondition],
    size: Resolved,
    stride: int,  # the autoencoder takes one frame more than a multiple of this
) -> tuple[list[tuple[LTXVideoCondition, Tensor]], tuple[str, ...]]:
    """Each condition with its pixels, cut to a length that fits, and a sentence for each clip that was cut."""
    pixels: list[tuple[LTXVideoCondition, Tensor]] = []
    cuts: list[str] = []
    for condition in conditions:
        condition.check(size)
        if condition.image is not None:
            picture = preprocess_image(condition.image, size.height, size.width)
            pixels.append((condition, picture.unsqueeze(2)))
            continue
        clip = preprocess_video(condition.video, size.height, size.width)
        length = clip.shape[2]
        room = min(length, size.generated_frames - condition.frame_index)
        clip = clip[:, :, : (room - 1) // stride * stride + 1]
        if clip.shape[2] < length:
            fits = f"it must fit into the video and have {stride}k + 1 frames"
            cuts.append(f"Of a clip of {length} frames the first {clip.shape[2]} are used: {fits}.")
        if condition.frame_index > 0 and 1 < clip.shape[2] < (PREFIX_FRAMES - 1) * stride + 1:
            raise ValueError(f"A clip inside the video needs {stride + 1} frames or more, got {clip.shape[2]}.")
        pixels.append((condition, clip))
    return pixels, tuple(cuts)


def clip_to_change(
    conditions: list[tuple[LTXVideoCondition, Tensor]], size: Resolved
) -> tuple[Tensor, list[tuple[LTXVideoCondition, Tensor]]]:
    """The pixels of the one clip that is as long as the video to make, and the conditions without it."""
    whole = [
        place
        for place, (condition, clip) in enumerate(conditions)
        if condition.video is not None and condition.frame_index == 0 and clip.shape[2] == size.generated_frames
    ]
    if len(whole) != 1:
        raise ValueError(
            f"denoise_strength below 1 changes a video: pass its latents, or one video of {size.generated_frames}"
            f" frames at frame 0; {len(whole)} such were given."
        )
    return conditions[whole[0]][1], [pair for place, pair in enumerate(conditions) if place != whole[0]]


def place_conditions(
    pipeline: Any, session: Session[Any], latents: Tensor, conditions: list[tuple[LTXVideoCondition, Tensor]]
) -> ConditionedLatents:
    """Write the latents of conditions over those of the video, or beside them as further tokens.

    Args:
        latents: noise or a noisy video, (batch, channels, frames, height, width); written to.
        conditions: each with its pixels.
    """
    request, generator = session.request, session.generator
    stride = pipeline.vae.temporal_compression_ratio
    frame_strengths = torch.zeros(latents.shape[2])
    extra_tokens: list[Tensor] = []
    extra_strengths: list[Tensor] = []
    extra_coordinates: list[Tensor] = []

    def write(given: Tensor, first: int, strength: float) -> None:
        covered = slice(first, first + given.shape[2])
        latents[:, :, covered] = torch.lerp(latents[:, :, covered], given, strength)
        frame_strengths[covered] = strength

    for condition, pixels in conditions:
        if isinstance(generator, list):
            pixels = pixels.expand(request.num_videos, -1, -1, -1, -1)
        given = pipeline.encode_video(pixels, session).to(latents.device)
        given = given.expand(request.num_videos, -1, -1, -1, -1)
        if condition.frame_index == 0:
            write(given, 0, condition.strength)
            continue
        if given.shape[2] > PREFIX_FRAMES:
            write(given[:, :, PREFIX_FRAMES:], condition.frame_index // stride + PREFIX_FRAMES, condition.strength)
            given = given[:, :, :PREFIX_FRAMES]
        noise = draw_noise(given.shape, generator, latents.device)
        extra_tokens.append(pack_latents(torch.lerp(noise, given, condition.strength), *pipeline.patches))
        extra_strengths.append(torch.full((1, extra_tokens[-1].shape[1]), float(condition.strength)))
        extra_coordinates.append(_coordinates(pipeline, request, given.shape[2], condition.frame_index))

    tokens = pack_latents(latents, *pipeline.patches)
    strengths = frame_strengths[:: pipeline.patches[1], None].expand(-1, tokens.shape[1] // latents.shape[2])
    extra_strengths.append(strengths.reshape(1, -1))
    extra_coordinates.append(_coordinates(pipeline, request, latents.shape[2], 0))
    return ConditionedLatents(
        latents=torch.cat([*extra_tokens, tokens], dim=1),
        strengths=torch.cat(extra_strengths, dim=1).to(latents.device),
        coordinates=torch.cat(extra_coordinates, dim=2).to(latents.device),
        num_extra=sum(one.shape[1] for one in extra_tokens),
        has_conditions=bool(conditions),
    )


def _coordinates(pipeline: Any, request: Request[Any], num_frames: int, frame_index: int) -> Tensor:
    """Places of latent frames that stand at a frame of the video, (1, 3, tokens), as shares of the base grid."""
    patch, patch_t = pipeline.patches
    _, height, width = request.size.latent_size
    stride, ratio = pipeline.vae.temporal_compression_ratio, pipeline.vae.spatial_compression_ratio
    # The first latent frame stands for one frame and each other one for `stride`; a token is where its first frame is.
    frames = (torch.arange(0, num_frames, patch_t) * stride + 1 - stride).clamp_min(0) + frame_index
    axes = [
        frames / request.size.frame_rate / BASE_GRID[0],
        torch.arange(0, height, patch) * (ratio / BASE_GRID[1]),
        torch.arange(0, width, patch) * (ratio / BASE_GRID[2]),
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)[None]
