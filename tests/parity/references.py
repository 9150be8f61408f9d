"""Helpers that make comparisons with the reference implementation sharp."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def randomise(module: nn.Module, seed: int = 0, spread: float = 0.2) -> nn.Module:
    """Shake every parameter and buffer: those that start at zero or one would hide a difference."""
    generator = torch.Generator().manual_seed(seed)
    stored = module.state_dict().keys()  # tables that are computed are no weights
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name not in stored or not tensor.is_floating_point() or name.endswith("timestep_scale_multiplier"):
                continue
            noise = torch.randn(tensor.shape, generator=generator) * spread
            if name.endswith("latents_std"):
                noise = noise.abs()
            tensor.add_(noise if tensor.dim() < 2 else 0.25 * noise)
    return module.eval()


def transplant(ours: nn.Module, reference: nn.Module) -> nn.Module:
    """Ours with the reference's weights; every name must be the same on both sides."""
    ours.load_state_dict(reference.state_dict(), strict=True)
    return ours.eval()


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Norm of the difference by the norm of the reference."""
    assert ours.shape == reference.shape, f"{tuple(ours.shape)} is not {tuple(reference.shape)}"
    return float((ours.double() - reference.double()).norm() / reference.double().norm())
