"""Where a run begins: with which latents, what of pictures and clips, and at which step of its schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from filmstrip.generation.finite import check_finite
from filmstrip.generation.session import Session
from filmstrip.memory.coding import Coding
from filmstrip.memory.residency import execution_device
from filmstrip.outputs import DiagonalGaussian
from filmstrip.randomness import draw_noise


def initial_latents(session: Session[Any], shape: Sequence[int], device: torch.device) -> Tensor:
    """The latents that a call was given, or unit noise of a shape; float32."""
    latents: Tensor | None = session.request.arguments.latents
    if latents is None:
        latents = draw_noise(shape, session.generator, device)
    return latents.to(device, torch.float32)


def posterior_of(vae: Any, pixels: Tensor, coding: Coding | None) -> DiagonalGaussian:
    """What an autoencoder finds in pixels, (batch, 3, ..., height, width) in [-1, 1]."""
    posterior: DiagonalGaussian = vae.encode(pixels.to(execution_device(vae), vae.dtype), coding=coding)[0]
    check_finite(posterior.mean, "vae", "encoding")
    return posterior
