"""From what was asked to what will be made: sizes and lengths, without weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

from filmstrip.checks import check_whole_number
from filmstrip.devices import physical_memory
from filmstrip.records import record

_LEAST_BYTES = 4 * 4  # of one position of the latents: four channels in float32, for noise and what is made of it


@dataclass(frozen=True)
class Rules:
    """The sizes and lengths that a model can make."""

    title: str
    """The model's name in messages."""
    size_multiple: int
    """Height and width are multiples of this many pixels."""
    size_reason: str
    """Where that multiple comes from."""
    spatial_ratio: int
    """Pixels to one latent, along height and along width."""
    temporal_ratio: int
    """Frames to one latent; the first frame of a video may have a latent of its own."""
    frame_stride: int
    """The number of frames is one of `frame_offsets` more than a multiple of this."""
    frame_offsets: tuple[int, ...] = (1,)
    """In rising order, from 0 to less than `frame_stride`."""
    latent_multiple: int = 1
    """Latent frames are filled up to a multiple of this before the first, and dropped again before decoding."""
    latents_per_token: int = 1
    """Latent positions that the network takes together."""

    @property
    def frame_counts(self) -> str:
        """The numbers of frames that the model makes, in words: "8k or 8k + 1"."""
        return " or ".join(
            f"{self.frame_stride}k" + (f" + {offset}" if offset else "") for offset in self.frame_offsets
        )

    def generated(self, num_frames: int) -> int:
        """The smallest number of frames that the model makes and that is at least `num_frames`."""
        whole = num_frames - num_frames % self.frame_stride
        counts = (whole + offset for offset in (*self.frame_offsets, self.frame_stride + self.frame_offsets[0]))
        return next(count for count in counts if count >= max(num_frames, 1))

    def latent_frames(self, generated_frames: int) -> int:
        """Latent frames that stand for so many frames."""
        return (generated_frames - 1) // self.temporal_ratio + 1


@record("size")
@dataclass(frozen=True)
class Resolved:
    """What will be made."""

    height: int
    width: int
    num_frames: int
    """Frames of the finished video: exactly those asked for."""
    generated_frames: int
    """Frames that the model makes; those beyond `num_frames` are cut off."""
    frame_rate: float
    latent_size: tuple[int, int, int]
    """Latent frames, height and width."""
    num_tokens: int
    """What the network works on, prompts not counted."""
    spare_latents: int = 0
    """How many of the latent frames, at the start, stand for nothing and are dropped before decoding."""
    adjustments: tuple[str, ...] = ()
    """What differs from the request, and why; one sentence each."""

    @property
    def seconds(self) -> float:
        """Playing time of the finished video."""
        return self.num_frames / self.frame_rate


def resolve(rules: Rules, *, height: int, width: int, num_frames: int, frame_rate: float) -> Resolved:
    """Find what a model has to make for a video of this size and length, or say why it can't.

    Raises:
        ValueError: a size that the model can't make, or numbers that make no sense.
    """
    for name, value in (("height", height), ("width", width)):
        check_whole_number(name, value)
        if extra := value % rules.size_multiple:
            lower, higher = value - extra, value - extra + rules.size_multiple
            nearest = f"{lower} or {higher}" if lower else str(higher)
            raise ValueError(
                f"{name} must be a multiple of {rules.size_multiple} for {rules.title} ({rules.size_reason}), "
                f"got {value}; use {nearest}."
            )
    check_whole_number("num_frames", num_frames)
    if not frame_rate > 0:
        raise ValueError(f"frame_rate must be positive, got {frame_rate}.")

    generated = rules.generated(num_frames)
    latent_frames = rules.latent_frames(generated)
    spare = -latent_frames % rules.latent_multiple
    adjustments = []
    if generated != num_frames:
        cut = generated - num_frames
        counts = rules.frame_counts
        adjustments.append(f"{rules.title} makes {counts} frames: {generated} are generated, the last {cut} cut off.")
    latent_size = spare + latent_frames, height // rules.spatial_ratio, width // rules.spatial_ratio
    resolved = Resolved(
        height=height,
        width=width,
        num_frames=num_frames,
        generated_frames=generated,
        frame_rate=frame_rate,
        latent_size=latent_size,
        num_tokens=math.prod(latent_size) // rules.latents_per_token,
        spare_latents=spare,
        adjustments=tuple(adjustments),
    )
    check_held(resolved)
    return resolved


def check_held(size: Resolved, num_videos: int = 1) -> None:
    """See that the latents of a run, of which there are a few copies at a time, could be held by this machine at all.

    Raises:
        ValueError: they could not; says how much they would take.
    """
    needed = num_videos * math.prod(size.latent_size) * _LEAST_BYTES
    memory = physical_memory()
    if memory is not None and needed > memory:
        raise ValueError(
            f"{num_videos} x {size.num_frames} frames of {size.width}x{size.height} take at least"
            f" {needed / 1e9:,.0f} GB for their latents alone, and this machine has {memory / 1e9:,.0f} GB;"
            " ask for less."
        )
