"""Linear layers and matrix products as the CPU computes them fastest."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.kernels import onednn
from filmstrip.kernels.onednn import Activation
from filmstrip.kernels.plain import is_free, is_plain
from filmstrip.kernels.valueless import is_on_cpu

# Tokens that are taken at a time where a wide intermediate result would not stay in a core's caches.
BLOCK_TOKENS = 512
# Multiplications up to which a product in float32 is over before oneDNN has begun.
SMALL_PRODUCT = 2**20


def takes_onednn(hidden_states: Tensor, weight: Tensor) -> bool:
    """Whether `product` calls oneDNN: on a CPU, where no gradient is asked for and nothing is traced.

    In float32 torch's own products take twice as long on processors that its library MKL does not favour.
    """
    return (
        is_on_cpu(hidden_states)
        and hidden_states.dtype == weight.dtype
        and type(weight) in (Tensor, nn.Parameter)  # not quantised, nor otherwise more than numbers
        and is_free()  # oneDNN's product has no gradient
        and hidden_states.dtype in onednn.linear_types()
    )


def product(
    hidden_states: Tensor,  # (..., in_features)
    weight: Tensor,  # (out_features, in_features)
    bias: Tensor | None = None,
    activation: Activation | None = None,
) -> Tensor:  # (..., out_features)
    """What a linear layer computes; with an activation only for products of which `fuses` says so."""
    if takes_onednn(hidden_states, weight) and (activation or not _is_small(hidden_states, weight)):
        return onednn.linear(hidden_states, weight, bias, activation)
    assert activation is None, "an activation was given for a product that can't have one"
    return F.linear(hidden_states, weight, bias)


def _is_small(hidden_states: Tensor, weight: Tensor) -> bool:
    return hidden_states.dtype == torch.float32 and hidden_states.numel() * weight.shape[0] < SMALL_PRODUCT


def fuses(layer: nn.Module, hidden_states: Tensor) -> bool:
    """Whether an activation can be made part of a layer's product."""
    return (
        is_plain(layer, nn.Linear)
        and takes_onednn(hidden_states, layer.weight)
        and not _is_small(hidden_states, layer.weight)
    )
