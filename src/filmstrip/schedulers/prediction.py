"""What a network's prediction says about the clean latents and about the noise, written once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction", "flow_prediction")


class Level(NamedTuple):
    """How noisy latents are: `alpha * clean + sigma * noise`."""

    alpha: float
    sigma: float


class Weights(NamedTuple):
    """A quantity as `latents_weight * latents + prediction_weight * prediction`."""

    latents: float
    prediction: float


def clean_weights(prediction_type: str, level: Level) -> Weights:
    """The clean latents, from latents at `level` and what the network predicted for them.

    Predictions are the noise ("epsilon"), the clean latents ("sample"), `alpha * noise - sigma * clean` at unit
    length of (alpha, sigma) ("v_prediction", arXiv:2202.00512) or `noise - clean` ("flow_prediction").
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
        length = (alpha * alpha + sigma * sigma) ** 0.5
        return Weights(alpha / length**2, -sigma / length)
    assert prediction_type == "flow_prediction", prediction_type
    return Weights(1 / (alpha + sigma), -sigma / (alpha + sigma))


def combine(*terms: tuple[float, Tensor]) -> Tensor:
    """The weighted sum of tensors, computed and given in float32 or wider, without rounding on the way."""
    terms = tuple(term for term in terms if term[0] != 0) or terms[:1]
    (weight, tensor), *others = terms
    total = torch.mul(tensor, weight) if tensor.dtype.itemsize > 2 else tensor.float().mul_(weight)
    for weight, tensor in others:
        if tensor.dtype.itemsize > total.dtype.itemsize:
            total = total.to(tensor.dtype)
        total.add_(tensor, alpha=weight)
    return total
