"""oneDNN's own operators: private to torch, which lacks them where it was built without oneDNN, as for macOS.

They are looked up when they are used; where one is missing, whoever would call it goes another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

Activation = tuple[str, list[Any], str]
"""How oneDNN calls an activation that it applies while it still holds a product in registers."""
NO_ACTIVATION: Activation = ("none", [], "")


@cache
def linear_operator() -> Any:
    """The operator behind `linear`, as a dispatch mode sees it; None on a torch that lacks it."""
    return _operator("mkldnn", "_linear_pointwise")


@cache
def convolution_operator() -> Any:
    """The operator behind `convolution`, as a dispatch mode sees it; None on a torch that lacks it."""
    return _operator("aten", "mkldnn_convolution")


@cache
def linear_types() -> tuple[torch.dtype, ...]:
    """The types in which `linear` computes on this machine."""
    if not torch.backends.mkldnn.is_available() or linear_operator() is None:
        return ()
    asked = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return (torch.float32, torch.bfloat16) if asked is not None and asked() else (torch.float32,)


@cache
def has_convolution() -> bool:
    """Whether there is `convolution`."""
    return torch.backends.mkldnn.is_available() and convolution_operator() is not None


def linear(hidden_states: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation | None) -> Tensor:
    """A linear layer, and perhaps an activation; of one of `linear_types`."""
    # Matrices with gaps between their rows are multiplied hundreds of times slower.
    product: Tensor = torch.ops.mkldnn._linear_pointwise(
        hidden_states.contiguous(), weight.contiguous(), bias, *(activation or NO_ACTIVATION)
    )
    return product


def convolution(
    hidden_states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """A convolution with zeros around it."""
    return torch.mkldnn_convolution(hidden_states, weight, bias, padding, stride, dilation, 1)


def _operator(library: str, name: str) -> Any:
    return getattr(getattr(getattr(torch.ops, library), name, None), "default", None)
