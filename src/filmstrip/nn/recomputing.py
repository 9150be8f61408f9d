"""Training in less memory: intermediate results are computed again in the backward pass (arXiv:1604.06174)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


def recomputed(function: Callable[..., Result], *arguments: Any) -> Result:
    """What `function` returns; of its work only the arguments are kept for the backward pass.

    Noise that it draws from the global source is drawn the same again; noise from a generator would not be.
    """
    return checkpoint(function, *arguments, use_reentrant=False)
