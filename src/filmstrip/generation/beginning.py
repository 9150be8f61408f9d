"""Where a run begins: with which latents, and what of pictures and clips."""

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
from filmstrip.randomness import draw_noise, draw_video_noise


def initial_latents(
    session: Session[Any], shape: Sequence[int], device: torch.device, *, frame_dim: int | None = None
) -> Tensor:
    """The latents that a call was given, or unit noise of a shape; float32.

    Args:
        frame_dim: the axis of frames, whose noise is then as the call says; None: there is none.
    """
    latents: Tensor | None = session.request.arguments.latents
    if latents is None:
        latents = drawn_noise(session, shape, device, frame_dim=frame_dim)
    return latents.to(device, torch.float32)


def drawn_noise(
    session: Session[Any], shape: Sequence[int], device: torch.device, *, frame_dim: int | None = None
) -> Tensor:
    """Unit noise of a shape from the run's generators, as `initial_latents` draws it."""
    if frame_dim is None:
        return draw_noise(shape, session.generator, device)
    return draw_video_noise(shape, session.request.arguments.base_noise_share, frame_dim, session.generator, device)


def posterior_of(vae: Any, pixels: Tensor, coding: Coding | None) -> DiagonalGaussian:
    """What an autoencoder finds in pixels, (batch, 3, ..., height, width) in [-1, 1]."""
    posterior: DiagonalGaussian = vae.encode(pixels.to(execution_device(vae), vae.dtype), coding=coding)[0]
    check_finite(posterior.mean, "vae", "encoding")
    return posterior
