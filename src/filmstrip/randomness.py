"""Gaussian noise from the generators of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from filmstrip.records import record

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


def draw_video_noise(
    shape: Sequence[int],
    base_share: float,
    frame_dim: int,
    generator: Generators = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Unit Gaussian noise, in part the same for all frames of a video (VideoFusion, arXiv:2303.08320).

    Each frame is `sqrt(base_share) * base + sqrt(1 - base_share) * residual`: its variance is 1, and its covariance
    with another frame of its video is the share. Residuals are drawn first, and as `draw_noise` draws them.

    Args:
        base_share: of the variance that frames have in common, from 0 (nothing, and no base is drawn) to 1 (all).
        frame_dim: the axis of frames.
    """
    noise = draw_noise(shape, generator, device)
    if base_share == 0:
        return noise
    base = draw_noise([1 if axis == frame_dim else size for axis, size in enumerate(shape)], generator, device)
    return noise.mul_((1 - base_share) ** 0.5).add_(base, alpha=base_share**0.5)


@record("noise")
@dataclass(frozen=True)
class NoiseState:
    """Where the generators of a run stand, or torch's global stream where a run has none."""

    device: str
    states: tuple[Tensor, ...]
    is_list: bool = False
    is_global: bool = False

    @classmethod
    def of(cls, generator: Generators, device: torch.device | str = "cpu") -> NoiseState:
        """The state as it is now.

        Args:
            device: whose global stream is drawn from where there is no generator.
        """
        if generator is None:
            return cls(str(device), (_global_state(torch.device(device)),), is_global=True)
        if isinstance(generator, torch.Generator):
            return cls(str(generator.device), (generator.get_state(),))
        return cls(str(generator[0].device), tuple(one.get_state() for one in generator), is_list=True)

    def restore(self, generator: Generators) -> None:
        """Let the generators that the state was taken of go on from there."""
        if generator is None:
            _set_global_state(torch.device(self.device), self.states[0])
        elif isinstance(generator, torch.Generator):
            generator.set_state(self.states[0])
        else:
            for one, state in zip(generator, self.states, strict=True):
                one.set_state(state)

    def generators(self) -> Generators:
        """New generators that go on from there; one in place of the global stream."""
        made = [torch.Generator(self.device) for _ in self.states]
        for generator, state in zip(made, self.states, strict=True):
            generator.set_state(state)
        return made if self.is_list else made[0]


def _global_state(device: torch.device) -> Tensor:
    state: Tensor = torch.get_rng_state() if device.type == "cpu" else _module(device).get_rng_state(device)
    return state


def _set_global_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cpu":
        torch.set_rng_state(state)
    else:
        _module(device).set_rng_state(state, device)


def _module(device: torch.device) -> Any:
    return torch.get_device_module(device)
