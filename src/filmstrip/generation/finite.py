"""Stopping at the first component whose output is not finite, instead of writing a black video."""

from __future__ import annotations

import torch
from torch import Tensor


class NonFiniteError(FloatingPointError):
    """A component gave infinities or NaNs."""


def check_finite(tensor: Tensor, component: str, where: str = "") -> Tensor:
    """The tensor itself, if all of it is finite.

    Args:
        component: the pipeline's name for what made it.
        where: which part of its work, such as "step 3 of 20".

    Raises:
        NonFiniteError: it is not; names the component and what to change.
    """
    if not bool(torch.isfinite(tensor.sum(dtype=torch.float32))) and not bool(torch.isfinite(tensor).all()):
        place = f" at {where}" if where else ""
        dtype = str(tensor.dtype).removeprefix("torch.")
        remedy = "check its weights and its input"
        if tensor.dtype == torch.float16:
            remedy = "load it with torch_dtype=torch.bfloat16 or float32, whose range is wider"
        raise NonFiniteError(f"The {component} gave values that are not finite{place} (in {dtype}); {remedy}.")
    return tensor
