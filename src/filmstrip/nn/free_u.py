"""FreeU (arXiv:2309.11497): a stronger stream and skips with less of their lowest frequencies, without training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FreeU:
    """What the first two blocks on the way up put together, from the stream and from the skips.

    Args:
        skip_scales: of the skips' lowest frequencies, in the first block and in the second.
        stream_scales: of half of the stream's channels.
    """

    skip_scales: tuple[float, float]
    stream_scales: tuple[float, float]

    def __call__(self, block: int, hidden_states: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        if block >= len(self.skip_scales):
            return hidden_states, skip
        strengthened, rest = hidden_states.tensor_split([hidden_states.shape[1] // 2], dim=1)
        hidden_states = torch.cat([strengthened * self.stream_scales[block], rest], dim=1)
        return hidden_states, skip + (self.skip_scales[block] - 1) * low_frequencies(skip)


class FreeUSwitch:
    """The part of a U-Net that switches FreeU on and off."""

    free_u: FreeU | None = None

    def enable_freeu(self, s1: float, s2: float, b1: float, b2: float) -> None:
        """Strengthen the stream and weaken the skips in the first two blocks on the way up (arXiv:2309.11497).

        Args:
            s1, s2: what the low frequencies of the skips are scaled by, in the first block and in the second.
            b1, b2: what half of the stream's channels are scaled by.
        """
        self.free_u = FreeU((s1, s2), (b1, b2))

    def disable_freeu(self) -> None:
        """Join stream and skips as they are again."""
        self.free_u = None


def low_frequencies(picture: Tensor) -> Tensor:  # (batch, channels, height, width), both ways
    """What a picture has at the frequencies 0 and -1 along each axis, the real part of it.

    Both axes' projections are complex, `A + iB` as matrices; of their product the real part is left.
    """
    height, width = picture.shape[-2:]
    (rows, rows_shifted), (columns, columns_shifted) = (_projection(size, picture.device) for size in (height, width))
    # In float32, as the transforms of the reference are.
    pixels = picture.float()
    low = rows @ pixels @ columns.T - rows_shifted @ pixels @ columns_shifted.T
    return low.to(picture.dtype)


def _projection(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    if size == 1:  # which has the frequency 0 only
        return torch.ones(1, 1, device=device), torch.zeros(1, 1, device=device)
    places = torch.arange(size, dtype=torch.float32, device=device)
    angles = (2 * math.pi / size) * (places[:, None] - places)
    return (1 + angles.cos()) / size, angles.sin() / size
