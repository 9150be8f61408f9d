"""Which type weights are loaded in."""

from __future__ import annotations

import functools
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from filmstrip.devices import best_device, supports_dtype
from filmstrip.json_files import shown

logger = logging.getLogger(__name__)

_ALIASES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}
_TYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in ("bfloat16", "float16", "float32", "float64")}


def requested_dtype(torch_dtype: Any = None, dtype: Any = None, mindspore_dtype: Any = None) -> torch.dtype | None:
    """The type asked for under any of its three names, or None if none was, or "auto".

    A type may be torch's, a name such as "bfloat16" or "bf16", or another library's type of that name.

    Raises:
        ValueError: no such type, or two names that disagree.
    """
    given = {"torch_dtype": torch_dtype, "dtype": dtype, "mindspore_dtype": mindspore_dtype}
    parsed = {name: _parse(name, value) for name, value in given.items() if value is not None}
    if len(set(parsed.values())) > 1:
        said = " and ".join(f"{name}={given[name]}" for name in parsed)
        raise ValueError(f"{said} disagree; give one of them.")
    return next(iter(parsed.values()), None)


def requested_dtypes(
    torch_dtype: Any = None, dtype: Any = None, mindspore_dtype: Any = None
) -> dict[str, torch.dtype | None]:
    """`requested_dtype` for a pipeline: component to type, and under "default" the type of all that are not named.

    Each of the three may be a dictionary of such types.
    """
    given = [each if isinstance(each, Mapping) else {"default": each} for each in (torch_dtype, dtype, mindspore_dtype)]
    names = {"default"}.union(*given)
    return {name: requested_dtype(*(each.get(name, each.get("default")) for each in given)) for name in names}


def _parse(argument: str, value: Any) -> torch.dtype | None:
    if value == "auto":
        return None
    # A type of another library is known by the last word of its text ("Float16", "<class 'numpy.float16'>").
    words = re.findall(r"[a-z]+\d*", str(value).lower())
    name = words[-1] if words else ""
    dtype = _TYPES.get(_ALIASES.get(name, name))
    if dtype is None:
        raise ValueError(f"{argument} must be one of {', '.join(_TYPES)} or 'auto', got {shown(value)}.")
    return dtype


def resolve_dtype(
    requested: torch.dtype | None, stored: Iterable[tuple[torch.dtype, int]], device: torch.device | None
) -> torch.dtype:
    """The type to load in: the requested one, else the one that most bytes of the file have.

    On a CPU a file in float16 is loaded in bfloat16, and so it is where no device is given and the machine has
    no accelerator: a CPU computes in float16 slowly, and overflows.

    Args:
        stored: the type and size in bytes of every tensor of the file.

    Raises:
        ValueError: the device can't hold the type.
    """
    prevailing = _prevailing(stored)
    dtype = requested or prevailing
    warn_of_overflow(prevailing, dtype)
    target = device or best_device()
    if requested is None and dtype == torch.float16 and target.type == "cpu":
        _say_once()
        dtype = torch.bfloat16
    if target.type != "meta" and not supports_dtype(target, dtype):
        usable = [name for name, known in _TYPES.items() if supports_dtype(target, known)]
        raise ValueError(f"the device {str(target)!r} has no {_name(dtype)}; load with dtype={' or '.join(usable)}.")
    return dtype


def _prevailing(stored: Iterable[tuple[torch.dtype, int]]) -> torch.dtype:
    sizes: Counter[torch.dtype] = Counter()
    for dtype, size in stored:
        if dtype in _TYPES.values():
            sizes[dtype] += size
    return sizes.most_common(1)[0][0] if sizes else torch.float32


def warn_of_overflow(present: torch.dtype, wanted: torch.dtype) -> None:
    """Say that networks made for bfloat16 may overflow in float16, whose largest number is 65504."""
    if present == torch.bfloat16 and wanted == torch.float16:
        _say_that_it_overflows()


@functools.cache
def _say_that_it_overflows() -> None:
    logger.warning(
        "weights that are published in bfloat16 may overflow in float16; a run stops and says so where values are not"
        " finite: choose bfloat16 then, or float32."
    )


@functools.cache
def _say_once() -> None:
    logger.warning("these float16 weights run in bfloat16 on the CPU; pass dtype to choose another type.")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
