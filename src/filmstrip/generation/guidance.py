"""Guidance: how the predictions for a prompt and against it make one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

Condition = TypeVar("Condition")
Predict = Callable[[Tensor, float, Condition], Tensor]
"""(latents, timestep, condition) to the network's prediction, float32."""


@dataclass(frozen=True)
class Unguided(Generic[Condition]):
    """The prediction for the prompt, as it is."""

    positive: Condition

    def __call__(self, predict: Predict[Condition], latents: Tensor, timestep: float) -> Tensor:
        return predict(latents, timestep, self.positive)


@dataclass(frozen=True)
class ClassifierFree(Generic[Condition]):
    """Classifier-free guidance (arXiv:2207.12598): away from the negative prompt, towards the prompt.

    Given `joint`, the condition of a batch that holds the negative prompts and then the prompts, one call of the
    network answers both; else there are two calls in turn, which need half the memory.
    """

    scale: float
    negative: Condition | None = None
    positive: Condition | None = None
    joint: Condition | None = None
    rescale: float = 0.0
    """How far to bring the contrast back to that of the prompt's own prediction, from 0 (not) to 1 (fully)."""

    def __call__(self, predict: Predict[Condition], latents: Tensor, timestep: float) -> Tensor:
        if self.joint is not None:
            both = predict(torch.cat([latents, latents]), timestep, self.joint)
            negative, positive = both.chunk(2)
        elif self.negative is not None and self.positive is not None:
            negative = predict(latents, timestep, self.negative)
            positive = predict(latents, timestep, self.positive)
        else:
            raise ValueError("ClassifierFree needs a joint condition, or a negative and a positive one.")
        guided = torch.lerp(negative, positive, self.scale)
        return rescale_contrast(guided, positive, self.rescale) if self.rescale > 0 else guided


def rescale_contrast(guided: Tensor, positive: Tensor, amount: float) -> Tensor:
    """`guided` with its deviation moved towards that of `positive` (arXiv:2305.08891, section 3.4)."""
    axes = tuple(range(1, guided.dim()))
    ratio = positive.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
    return guided * (amount * ratio + (1 - amount))
