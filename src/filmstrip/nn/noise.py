"""Gaussian noise from the generators of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None


def draw_noise(
    shape: Sequence[int],
    generator: Generators = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Unit Gaussian noise, drawn where the generator lives and moved to `device` afterwards.

    Args:
        shape: the first entry counts the videos.
        generator: one for all videos, or a list with one for each; without one, torch's global stream.
    """
    if isinstance(generator, Sequence):
        if len(generator) == 1 and shape[0] == 1:
            return draw_noise(shape, generator[0], device, dtype)
        if len(generator) != shape[0]:
            raise ValueError(
                f"{len(generator)} generators were given for {shape[0]} videos; give one, or one for each."
            )
        return torch.cat([draw_noise((1, *shape[1:]), one, device, dtype) for one in generator])
    source = torch.device(device) if generator is None else generator.device
    return torch.randn(tuple(shape), generator=generator, device=source, dtype=dtype).to(device)
