"""From what was asked to what will be made: sizes and lengths, without weights."""

from __future__ import annotations

from dataclasses import dataclass


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
    frame_stride: int
    """The number of frames is `frame_offset` more than a multiple of this."""
    frame_offset: int = 1


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
    adjustments: tuple[str, ...] = ()
    """What differs from the request, and why; one sentence each."""

    @property
    def seconds(self) -> float:
        """Playing time of the finished video."""
        return self.num_frames / self.frame_rate

    @property
    def num_tokens(self) -> int:
        """Latent positions."""
        frames, height, width = self.latent_size
        return frames * height * width


def resolve(rules: Rules, *, height: int, width: int, num_frames: int, frame_rate: float) -> Resolved:
    """Find what a model has to make for a video of this size and length, or say why it can't.

    Raises:
        ValueError: a size that the model can't make, or numbers that make no sense.
    """
    for name, value in (("height", height), ("width", width)):
        _check_count(name, value)
        if extra := value % rules.size_multiple:
            lower, higher = value - extra, value - extra + rules.size_multiple
            nearest = f"{lower} or {higher}" if lower else str(higher)
            raise ValueError(
                f"{name} must be a multiple of {rules.size_multiple} for {rules.title} ({rules.size_reason}), "
                f"got {value}; use {nearest}."
            )
    _check_count("num_frames", num_frames)
    if not frame_rate > 0:
        raise ValueError(f"frame_rate must be positive, got {frame_rate}.")

    steps = -(-(num_frames - rules.frame_offset) // rules.frame_stride)  # rounded up
    generated = max(steps, 0) * rules.frame_stride + rules.frame_offset
    adjustments = []
    if generated != num_frames:
        counts = f"{rules.frame_stride}k + {rules.frame_offset}"
        cut = generated - num_frames
        adjustments.append(f"{rules.title} makes {counts} frames: {generated} are generated, the last {cut} cut off.")
    return Resolved(
        height=height,
        width=width,
        num_frames=num_frames,
        generated_frames=generated,
        frame_rate=frame_rate,
        latent_size=(
            (generated - rules.frame_offset) // rules.frame_stride + 1,
            height // rules.spatial_ratio,
            width // rules.spatial_ratio,
        ),
        adjustments=tuple(adjustments),
    )


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
