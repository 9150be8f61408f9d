"""Rotary position embeddings on neighbouring pairs of channels (arXiv:2104.09864)."""

from __future__ import annotations

import torch
from torch import Tensor


def rotation_table(angles: Tensor) -> Tensor:
    """Cosine and sine of angles, (..., pairs, 2), float32: what `rotate_pairs` turns by."""
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def rotate_pairs(
    hidden_states: Tensor,  # (batch, tokens, dim), or with heads: (batch, tokens, heads, head_dim)
    rotation: Tensor,  # from `rotation_table`: (batch or 1, tokens, dim / 2, 2) or (tokens, 1, head_dim / 2, 2)
) -> Tensor:  # as `hidden_states`
    """Turn each pair of channels (2i, 2i + 1), taken as a complex number, by its token's angle."""
    # Angles and products are in float32: rotations of distant positions differ by less than half precision resolves.
    pairs = hidden_states.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler fuses real arithmetic, but no complex numbers
        real, imaginary = pairs.unbind(-1)
        cos, sin = rotation.unbind(-1)
        turned = torch.stack([real * cos - imaginary * sin, imaginary * cos + real * sin], dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotation))
    return turned.flatten(-2).to(hidden_states.dtype)
