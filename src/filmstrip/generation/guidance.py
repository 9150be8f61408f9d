"""Guidance: how a network's predictions under several conditions make one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from filmstrip.generation.arguments import Guided
from filmstrip.generation.conditions import Rows
from filmstrip.generation.events import Step
from filmstrip.generation.prompts import PromptsType

Given = TypeVar("Given")
Conditions = TypeVar("Conditions", bound=Rows)
Predict = Callable[[Tensor, float, Given], Tensor]
"""(latents, timestep, what the network is given beside them) to the network's prediction, float32."""
Rule = Callable[[Sequence[Tensor], float], Tensor]
"""From the predictions under several conditions, and the timestep, the one to step along."""
Split = Callable[[Conditions, float], tuple[Rule | None, list[Conditions]]]
"""From a run's conditions and the guidance scale, the rule and the conditions of its predictions, in its order.

None, and one condition: the prediction is taken as it is.
"""
Scale = float | Tensor | Callable[[float], float | Tensor]
"""A number, one for each frame (a tensor that broadcasts to the latents), or either as a function of the timestep."""


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance (arXiv:2207.12598): away from the negative prompt, towards the prompt, in this order."""

    scale: Scale
    """How far to go."""
    rescale: float = 0.0
    """How far to bring the contrast back to that of the prompt's own prediction, from 0 (not) to 1 (fully)."""

    def __call__(self, predictions: Sequence[Tensor], timestep: float) -> Tensor:
        negative, positive = predictions
        guided = torch.lerp(negative, positive, _at(self.scale, timestep))
        return rescale_contrast(guided, positive, self.rescale) if self.rescale > 0 else guided


@dataclass(frozen=True)
class TwoConditions:
    """Guidance by a prompt and by a second condition, each with a scale of its own (arXiv:2211.09800, section 3.2.1).

    The predictions are those under both, under the second alone, and under none.
    """

    scale: Scale
    second_scale: Scale

    def __call__(self, predictions: Sequence[Tensor], timestep: float) -> Tensor:
        both, second, none = predictions
        scale, second_scale = _at(self.scale, timestep), _at(self.second_scale, timestep)
        return none + scale * (both - second) + second_scale * (second - none)


def _at(scale: Scale, timestep: float) -> Any:
    return scale(timestep) if callable(scale) else scale


class Guidance(Generic[Conditions, Given]):
    """The guidance of one run, whose conditions a callback may replace between steps.

    Without `in_turn` one call of the network answers all conditions, stacked row by row; with it each is answered by
    itself, which takes a share of the memory.

    Args:
        conditions: what the run is conditioned on.
        split: the family's rule; see `Split`.
        prepare: from conditions, what `predict` is given; done once and not at every step.
        scale: the guidance scale that the run begins with.
    """

    def __init__(
        self,
        conditions: Conditions,
        split: Split[Conditions],
        prepare: Callable[[Conditions], Given],
        scale: float,
        *,
        in_turn: bool | None = False,
    ) -> None:
        self.conditions, self.scale = conditions, scale
        self._split, self._prepare, self._in_turn = split, prepare, bool(in_turn)
        self._rule: Rule | None
        self._set()

    def _set(self) -> None:
        self._rule, parts = self._split(self.conditions, self.scale)
        self._count = len(parts)
        if not self._in_turn:
            parts = [reduce(lambda rows, more: rows.followed_by(more), parts)]
        self._given = [self._prepare(part) for part in parts]

    def __call__(self, predict: Predict[Given], latents: Tensor, timestep: float) -> Tensor:
        if self._in_turn:
            predictions: Sequence[Tensor] = [predict(latents, timestep, given) for given in self._given]
        else:
            stacked = torch.cat([latents] * self._count) if self._count > 1 else latents
            predictions = predict(stacked, timestep, self._given[0]).chunk(self._count)
        return predictions[0] if self._rule is None else self._rule(predictions, timestep)

    def offer(self, step: Step, names: Collection[str]) -> None:
        """Put the conditions with these names where a callback sees them."""
        step.tensors.update({name: one for name, one in self.conditions.tensors.items() if name in names})

    def accept(self, step: Step) -> None:
        """Take over the conditions and the scale that a callback has put in their place."""
        present = self.conditions.tensors
        changed: dict[str, Any] = {
            name: one for name, one in step.tensors.items() if name in present and one is not present[name]
        }
        scale = self.scale if step.guidance_scale is None else step.guidance_scale
        if changed or scale != self.scale:
            self.conditions, self.scale = replace(self.conditions, **changed), scale
            self._set()


def away_from_negatives(
    arguments: Guided, *, vary: Callable[[float, float], float] | None = None
) -> Split[PromptsType]:
    """The rule of runs that are guided away from their negative prompts.

    Args:
        vary: from the scale and the timestep, the scale of that step; None keeps it.
    """

    def split(prompts: PromptsType, scale: float) -> tuple[Rule | None, list[PromptsType]]:
        prompts = prompts.trimmed()
        if not arguments.guides_at(scale):
            return None, [prompts.positive]
        negative = prompts.negative
        if negative is None:
            raise ValueError(
                f"this run began without guidance, so its scale can't rise to {scale}; begin with a scale above 1."
            )
        varied = scale if vary is None else (lambda timestep: vary(scale, timestep))
        return ClassifierFree(varied, arguments.rescale), [negative, prompts.positive]

    return split


def rescale_contrast(guided: Tensor, positive: Tensor, amount: float) -> Tensor:
    """`guided` with its deviation moved towards that of `positive` (arXiv:2305.08891, section 3.4)."""
    axes = tuple(range(1, guided.dim()))
    ratio = positive.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
    return guided * (amount * ratio + (1 - amount))
