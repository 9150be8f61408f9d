"""Normalisation without learned parameters, and its modulation by a timestep."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(hidden_states: Tensor, eps: float) -> Tensor:
    """The last dimension scaled to a root mean square of one (arXiv:1910.07467)."""
    return F.rms_norm(hidden_states, hidden_states.shape[-1:], None, eps)


def modulate(hidden_states: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`hidden_states * (1 + scale) + shift`, the adaptive normalisation of arXiv:2212.09748."""
    return torch.addcmul(shift, hidden_states, 1 + scale)
