"""Latents as tokens and back, normalised and not: what transformers of video latents share."""

from __future__ import annotations

import torch
from torch import Tensor


def pack_latents(
    latents: Tensor,  # (batch, channels, frames, height, width)
    patch_size: int = 1,
    patch_size_t: int = 1,
) -> Tensor:  # (batch, tokens, channels * patch_size_t * patch_size**2)
    """One token for each patch, frame by frame and row by row."""
    patches = latents.unflatten(4, (-1, patch_size)).unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size_t))
    return patches.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4, 7).flatten(1, 3)


def unpack_latents(
    tokens: Tensor,  # (batch, tokens, channels * patch_size_t * patch_size**2)
    size: tuple[int, int, int],  # latent frames, height and width
    patch_size: int = 1,
    patch_size_t: int = 1,
) -> Tensor:  # (batch, channels, frames, height, width)
    """The inverse of `pack_latents`."""
    frames, height, width = size
    grid = (frames // patch_size_t, height // patch_size, width // patch_size)
    patches = tokens.unflatten(1, grid).unflatten(-1, (-1, patch_size_t, patch_size, patch_size))
    return patches.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def normalize_latents(latents: Tensor, mean: Tensor, std: Tensor, scaling_factor: float = 1.0) -> Tensor:
    """Latents of an autoencoder brought to zero mean and unit variance, channel by channel."""
    mean, std = _per_channel(mean, latents), _per_channel(std, latents)
    return (latents - mean) * (scaling_factor / std)


def denormalize_latents(latents: Tensor, mean: Tensor, std: Tensor, scaling_factor: float = 1.0) -> Tensor:
    """The inverse of `normalize_latents`."""
    mean, std = _per_channel(mean, latents), _per_channel(std, latents)
    return torch.addcmul(mean, latents, std / scaling_factor)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device, like.dtype).view(1, -1, 1, 1, 1)
