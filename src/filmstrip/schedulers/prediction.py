"""What a network's prediction says about the clean latents and about the noise, written once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from filmstrip.records import record

Terms = list[tuple[float, Tensor]]  # a weighted sum


@record("level")
class Level(NamedTuple):
    """How noisy latents are: `alpha * clean + sigma * noise`."""

    alpha: float
    sigma: float

    @property
    def length(self) -> float:
        """Standard deviation of the latents, if those of a video have 1.

        Levels (1, sigma) stand for latents that the network sees divided by it.
        """
        return math.hypot(self.alpha, self.sigma) if self.alpha == 1 else 1.0

    @property
    def log_snr(self) -> float:
        """Logarithm of alpha / sigma, infinite at both ends."""
        if self.alpha == 0:
            return -math.inf
        return math.inf if self.sigma == 0 else math.log(self.alpha / self.sigma)


class Weights(NamedTuple):
    """A quantity as `weight * latents + weight * prediction`."""

    latents: float
    prediction: float


def clean_weights(prediction_type: str, level: Level) -> Weights:
    """The clean latents, from latents at `level` and what the network predicted for them.

    Predictions are the noise ("epsilon"), the clean latents ("sample"), `alpha * noise - sigma * clean` for latents
    of unit variance ("v_prediction", arXiv:2202.00512) or `noise - clean` ("flow_prediction").
    """
    alpha, sigma = level
    if prediction_type == "epsilon":
        if alpha == 0:
            raise ValueError(
                "a network that predicts the noise says nothing about the video where the schedule leaves no signal;"
                " use rescale_betas_zero_snr=False or a network with prediction_type='v_prediction'."
            )
        return Weights(1 / alpha, -sigma / alpha)
    if prediction_type == "sample":
        return Weights(0.0, 1.0)
    if prediction_type == "v_prediction":
        return Weights(alpha / level.length**2, -sigma / level.length)
    assert prediction_type == "flow_prediction", prediction_type
    return Weights(1 / (alpha + sigma), -sigma / (alpha + sigma))


def noise_weights(prediction_type: str, level: Level) -> Weights:
    """The noise, `(latents - alpha * clean) / sigma`, as `clean_weights` gives the clean latents."""
    alpha, sigma = level
    if prediction_type == "epsilon":
        return Weights(0.0, 1.0)
    if prediction_type == "sample":
        if sigma == 0:
            raise ValueError(
                "a network that predicts the clean latents says nothing about the noise where there is none;"
                " use set_alpha_to_one=False or a network with prediction_type='epsilon'."
            )
        return Weights(1 / sigma, -alpha / sigma)
    if prediction_type == "v_prediction":
        return Weights(sigma / level.length**2, alpha / level.length)
    assert prediction_type == "flow_prediction", prediction_type
    return Weights(1 / (alpha + sigma), alpha / (alpha + sigma))


def preconditioned_weights(prediction_type: str, level: Level, data_std: float) -> Weights:
    """The clean latents of a network that was trained with the preconditioning of EDM (arXiv:2206.00364, table 1).

    With the clean latents' standard deviation as the unit, such networks predict v, or by "epsilon" its negative.
    """
    latents, prediction = clean_weights("v_prediction", Level(level.alpha, level.sigma / data_std))
    return Weights(latents, prediction * (-data_std if prediction_type == "epsilon" else data_std))


@dataclass(frozen=True)
class Estimator:
    """How a run reads its network's predictions.

    Args:
        data_std: standard deviation of clean latents that the network was preconditioned with; None for others.
        clip: bound of clean values.
        threshold: quantile and highest bound of dynamic thresholding, which comes before clipping.
    """

    prediction_type: str
    clip: float | None = None
    threshold: tuple[float, float] | None = None
    data_std: float | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Estimator:
        """The one that a scheduler's settings describe."""
        clip = config["clip_sample_range"] if config.get("clip_sample") else None
        threshold = None
        if config.get("thresholding"):
            threshold = config["dynamic_thresholding_ratio"], config["sample_max_value"]
        kind = config["prediction_type"]
        return cls("sample" if kind == "original_sample" else kind, clip, threshold, config.get("sigma_data"))

    @property
    def is_linear(self) -> bool:
        """Whether the clean latents are the weighted sum that `clean_weights` tells."""
        return self.clip is None and self.threshold is None

    def clean(self, prediction: Tensor, latents: Tensor, level: Level) -> Tensor:
        """The estimate of the clean latents, in float32 or wider."""
        if self.is_linear:
            return combine(*self.clean_terms(prediction, latents, level))
        # Where no signal is left an estimate from noise grows without bound, and the bounds decide.
        visible = Level(max(level.alpha, 1e-12), level.sigma)
        clean = combine(*_terms(self._clean_weights(visible), prediction, latents))
        if self.threshold is not None:
            return _thresholded(clean, *self.threshold)
        assert self.clip is not None
        return clean.clamp(-self.clip, self.clip)

    def clean_terms(self, prediction: Tensor, latents: Tensor, level: Level) -> Terms:
        """The same as a weighted sum, so that a step can weigh the tensors themselves."""
        if self.is_linear:
            return _terms(self._clean_weights(level), prediction, latents)
        return [(1.0, self.clean(prediction, latents, level))]

    def noise_terms(self, prediction: Tensor, latents: Tensor, level: Level) -> Terms:
        """The estimate of the noise that goes with the clean latents, as a weighted sum."""
        if self.is_linear:
            return _terms(noise_weights(self.prediction_type, level), prediction, latents)
        clean = self.clean(prediction, latents, level)
        return [(1 / level.sigma, latents), (-level.alpha / level.sigma, clean)]

    def _clean_weights(self, level: Level) -> Weights:
        if self.data_std is None:
            return clean_weights(self.prediction_type, level)
        return preconditioned_weights(self.prediction_type, level, self.data_std)


def _terms(weights: Weights, prediction: Tensor, latents: Tensor) -> Terms:
    return [term for term in ((weights.latents, latents), (weights.prediction, prediction)) if term[0] != 0]


def scaled(weight: float, terms: Terms) -> Terms:
    """A weighted sum times a number."""
    return [(weight * inner, tensor) for inner, tensor in terms]


def joined(terms: Terms) -> Terms:
    """A weighted sum as that of one tensor, whose weight is left outside: one pass less."""
    (weight, _), *_ = terms
    return [(weight, combine(*scaled(1 / weight, terms)))] if len(terms) > 1 else terms


def combine(*terms: tuple[float, Tensor]) -> Tensor:
    """The weighted sum of tensors, computed and given in float32 or wider, in about one pass for each of them.

    The weights of a tensor that comes up again are added. The first two tensors are added before they are scaled, so
    that what cancels between them does so exactly.
    """
    weights: dict[int, float] = {}
    for weight, tensor in terms:
        weights[id(tensor)] = weights.get(id(tensor), 0.0) + weight
    tensors = {id(tensor): tensor for _, tensor in terms}
    (first_weight, first), *others = [
        (weights[key], tensor) for key, tensor in tensors.items() if weights[key] != 0
    ] or [(0.0, terms[0][1])]
    total = first if first.dtype.itemsize > 2 else first.float()
    if not others:
        return total * first_weight
    (second_weight, second), *others = others
    total = torch.add(total, second, alpha=second_weight / first_weight)
    if first_weight != 1:
        total.mul_(first_weight)
    for weight, tensor in others:
        total = total.add_(tensor, alpha=weight) if tensor.dtype != torch.float64 else total + weight * tensor
    return total


def _thresholded(clean: Tensor, quantile: float, highest: float) -> Tensor:
    """Clip each video to a quantile of its magnitudes, at least 1, and divide by it (arXiv:2205.11487, 2.3)."""
    bound = torch.quantile(clean.flatten(1).abs(), quantile, dim=1).clamp(min=1, max=highest)
    bound = bound.view(-1, *[1] * (clean.ndim - 1))
    return clean.clamp(-bound, bound) / bound
