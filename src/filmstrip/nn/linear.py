"""Linear layers as the CPU computes them fastest."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

# Tokens that are taken at a time where a wide intermediate result would not stay in a core's caches.
BLOCK_TOKENS = 512


@cache
def _processor_fuses() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fuses(layer: nn.Module, hidden_states: Tensor) -> bool:
    """Whether `fused_linear` computes what `layer` does: in bfloat16 on a CPU, where no gradient is asked for."""
    return (
        type(layer) is nn.Linear  # a layer put in its place computes something else
        and not (layer._forward_hooks or layer._forward_pre_hooks)
        and hidden_states.dtype == layer.weight.dtype == torch.bfloat16
        and hidden_states.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()  # the fused product has no gradient
        and _processor_fuses()
    )


def fused_linear(layer: nn.Module, hidden_states: Tensor, activation: tuple[str, list[Any], str]) -> Tensor:
    """A linear layer whose bias and activation are applied while the product is still held in registers."""
    return torch.ops.mkldnn._linear_pointwise(hidden_states, layer.weight, layer.bias, *activation)


def linear(layer: nn.Module, hidden_states: Tensor) -> Tensor:
    """What `layer` computes."""
    if fuses(layer, hidden_states):
        return fused_linear(layer, hidden_states, ("none", [], ""))
    return layer(hidden_states)
