"""Guidance: how the predictions for a prompt and against it make one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from filmstrip.generation.events import Step
from filmstrip.generation.prompts import Prompts

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

    scale: float | Callable[[float], float]
    """How far to go, or that as a function of the timestep."""
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
        scale = self.scale(timestep) if callable(self.scale) else self.scale
        guided = torch.lerp(negative, positive, scale)
        return rescale_contrast(guided, positive, self.rescale) if self.rescale > 0 else guided


@dataclass(frozen=True)
class TwoConditions(Generic[Condition]):
    """Guidance by a prompt and by a second condition, each with a scale of its own (arXiv:2211.09800, section 3.2.1).

    As `ClassifierFree`, it takes one joint condition, in the order of the three, or three that are answered in turn.
    """

    scale: float
    second_scale: float
    both: Condition | None = None
    second: Condition | None = None
    none: Condition | None = None
    joint: Condition | None = None

    def __call__(self, predict: Predict[Condition], latents: Tensor, timestep: float) -> Tensor:
        if self.joint is not None:
            both, second, none = predict(torch.cat([latents] * 3), timestep, self.joint).chunk(3)
        else:
            three = (self.both, self.second, self.none)
            both, second, none = (predict(latents, timestep, one) for one in three if one is not None)
        return none + self.scale * (both - second) + self.second_scale * (second - none)


Prepare = Callable[[Prompts], Condition]
"""From prompts without negative ones, the condition that `predict` takes; done once and not at every step."""
# What a callback may look at and replace.
_OFFERED = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")


class PromptGuidance(Generic[Condition]):
    """Guidance by the prompts of a run, which a callback may replace between steps.

    Args:
        scale: how strongly to follow the prompt; at 1 or less, negative prompts are not used.
        rescale: see `ClassifierFree`.
        is_sequential: run the network for the prompt and against it in turn.
        vary: from the scale and the timestep, the scale of that step; None keeps it.
    """

    def __init__(
        self,
        prompts: Prompts,
        prepare: Prepare[Condition],
        scale: float,
        *,
        rescale: float = 0.0,
        is_sequential: bool = False,
        vary: Callable[[float, float], float] | None = None,
    ) -> None:
        self._prompts, self._prepare, self._scale = prompts, prepare, scale
        self._rescale, self._is_sequential, self._vary = rescale, is_sequential, vary
        self._guidance = self._made()

    def __call__(self, predict: Predict[Condition], latents: Tensor, timestep: float) -> Tensor:
        return self._guidance(predict, latents, timestep)

    def offer(self, step: Step) -> None:
        """Put the prompts where a callback sees them."""
        step.tensors.update({name: one for name, one in self._prompts.tensors.items() if name in _OFFERED})

    def accept(self, step: Step) -> None:
        """Take over the prompts and the scale that a callback has put in their place."""
        scale = self._scale if step.guidance_scale is None else step.guidance_scale
        if scale > 1 and self._prompts.negative_prompt_embeds is None:
            raise ValueError(
                f"this run began without guidance, so its scale can't rise to {scale}; begin with a scale above 1."
            )
        changed: dict[str, Any] = {
            name: step.tensors[name]
            for name in _OFFERED
            if name in step.tensors and step.tensors[name] is not getattr(self._prompts, name)
        }
        if changed or scale != self._scale:
            self._prompts, self._scale = replace(self._prompts, **changed), scale
            self._guidance = self._made()

    def _made(self) -> Unguided[Condition] | ClassifierFree[Condition]:
        prompts, scale = self._prompts.trimmed(), self._scale
        positive, negative = prompts.positive, prompts.negative
        if scale <= 1 or negative is None:
            return Unguided(self._prepare(positive))
        vary = self._vary
        varied = scale if vary is None else (lambda timestep: vary(scale, timestep))
        if self._is_sequential:
            return ClassifierFree(varied, self._prepare(negative), self._prepare(positive), rescale=self._rescale)
        return ClassifierFree(varied, joint=self._prepare(negative.followed_by(positive)), rescale=self._rescale)


def rescale_contrast(guided: Tensor, positive: Tensor, amount: float) -> Tensor:
    """`guided` with its deviation moved towards that of `positive` (arXiv:2305.08891, section 3.4)."""
    axes = tuple(range(1, guided.dim()))
    ratio = positive.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
    return guided * (amount * ratio + (1 - amount))
