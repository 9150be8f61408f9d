"""Running a convolutional network over a video chunk by chunk, with the result of running it over the whole.

A stage is a part of the network with a signature `stage(hidden_states, stream)`. Given no stream it sees a whole
video; given one, it gets consecutive chunks and keeps in the stream what the next chunk needs. A stage may hold back
frames whose future it has not seen, so a chunk that comes out can be shorter than the one that went in, or empty.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")


class FrameStream:
    """What one stage keeps between the chunks of one video. Tensors are (batch, channels, frames, height, width)."""

    def __init__(self) -> None:
        self.is_last = False
        self._kept: dict[Hashable, Tensor] = {}
        self._made: dict[Hashable, object] = {}

    def fork(self) -> FrameStream:
        """A stream that goes on from the same frames, apart from this one."""
        other = FrameStream()
        other.is_last, other._kept, other._made = self.is_last, dict(self._kept), dict(self._made)
        return other

    def adopt(self, other: FrameStream) -> None:
        """Go on from where another stream is."""
        self._kept, self._made = other._kept, other._made

    def started(self, key: Hashable) -> bool:
        """Whether `keep` was called for this key before."""
        return key in self._kept

    def resume(self, key: Hashable, hidden_states: Tensor) -> Tensor:
        """The frames kept under this key, and after them those given."""
        kept = self._kept.get(key)
        if kept is None or kept.shape[2] == 0:
            return hidden_states
        return torch.cat([kept, hidden_states], dim=2) if hidden_states.shape[2] else kept

    def keep(self, key: Hashable, frames: Tensor) -> None:
        """Remember frames for the next chunk; a copy, so that the chunk they were cut from can be freed."""
        self._kept[key] = frames.clone()

    def kept(self, key: Hashable) -> Tensor | None:
        """The frames kept under this key, if there are any."""
        return self._kept.get(key)

    def hold(self, key: Hashable, frames: Tensor) -> None:
        """As `keep`, but the tensor itself: nobody else may have it."""
        self._kept[key] = frames

    def take(self, key: Hashable, hidden_states: Tensor, num_frames: int) -> Tensor:
        """The oldest `num_frames` of those that came in under this key; the rest waits."""
        waiting = self.resume(key, hidden_states)
        self.keep(key, waiting[:, :, num_frames:])
        return waiting[:, :, :num_frames]

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` returned for this key when it was first asked for."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]  # type: ignore[return-value]


Stage = Callable[[Tensor, FrameStream], Tensor]


def run_stage(stage: Stage, chunks: Iterable[Tensor], max_frames: int) -> Iterator[Tensor]:
    """Yield what a stage makes of consecutive chunks, cut to at most `max_frames` frames each before it sees them."""
    stream = FrameStream()
    waiting: Tensor | None = None
    for chunk in chunks:
        for part in chunk.split(max_frames, dim=2):
            if waiting is not None:
                yield stage(waiting, stream)
            waiting = part
    if waiting is not None:
        stream.is_last = True
        yield stage(waiting, stream)


def run_stages(stages: Sequence[Stage], chunks: Iterable[Tensor], max_frames: int) -> Iterator[Tensor]:
    """Yield the video that a chain of stages makes of consecutive chunks, in chunks; empty ones are left out.

    No stage holds more than `max_frames` frames and what its convolutions reach back, at any length of video.
    """
    for stage in stages:
        chunks = run_stage(stage, chunks, max_frames)
    return (chunk for chunk in chunks if chunk.shape[2] > 0)


def joined_stages(stages: Sequence[Stage], video: Tensor, max_frames: int) -> Tensor:
    """What `run_stages` yields, as one video."""
    return torch.cat(list(run_stages(stages, [video], max_frames)), dim=2)
