"""Layers that are torch's, with the same parameters, and computed fast: what networks are built of.

Whoever replaces or wraps one finds it called as any module; what recognises torch's layers recognises these.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from filmstrip.kernels.convolution import convolve
from filmstrip.kernels.linear import product


class Linear(nn.Linear):
    """A linear layer."""

    computes_as: ClassVar[type[nn.Module]] = nn.Linear

    def forward(self, hidden_states: Tensor) -> Tensor:
        return product(hidden_states, self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """A convolution of pictures."""

    computes_as: ClassVar[type[nn.Module]] = nn.Conv2d

    def forward(self, hidden_states: Tensor) -> Tensor:
        return _convolved(self, hidden_states)


class Conv3d(nn.Conv3d):
    """A convolution of videos."""

    computes_as: ClassVar[type[nn.Module]] = nn.Conv3d

    def forward(self, hidden_states: Tensor) -> Tensor:
        return _convolved(self, hidden_states)


def _convolved(layer: nn.Conv2d | nn.Conv3d, hidden_states: Tensor) -> Tensor:
    padding = layer.padding
    if isinstance(padding, str) or layer.padding_mode != "zeros" or layer.groups != 1:
        return layer._conv_forward(hidden_states, layer.weight, layer.bias)
    return convolve(hidden_states, layer.weight, layer.bias, padding, layer.stride, layer.dilation)
