"""Devices by name: the one module that knows which accelerators there are."""

from __future__ import annotations

import difflib
import functools
import os
import platform
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ACCELERATORS = ("cuda", "xpu", "mps")
"""Accelerator kinds that torch can drive, the best first."""

STREAMED = ("cuda", "xpu")
"""Those to which copies can be made beside their computing."""

FOUR_BITS = ("cpu", "cuda")
"""Kinds of devices with a product for weights of 4 bits."""

ANY_ACCELERATOR = "gpu"
"""The name that means whichever accelerator there is."""

_NAMES = (*ACCELERATORS, "cpu", "meta")


def has_accelerator(kind: str | None = None) -> bool:
    """Whether an accelerator (of that kind, or any) can be used now."""
    return any(_is_available(name) for name in ([kind] if kind else ACCELERATORS))


def best_device() -> torch.device:
    """The first accelerator there is, else the CPU."""
    return torch.device(next((kind for kind in ACCELERATORS if has_accelerator(kind)), "cpu"))


def parse_device(device: str | int | torch.device | None) -> torch.device:
    """The device meant by a name such as "cpu", "mps" or "cuda:1"; None and "auto" mean the best one.

    "gpu" means the best accelerator, and "gpu:1" the second of its kind.

    Raises:
        ValueError: there is no such device on this machine.
    """
    if device is None or device == "auto":
        return best_device()
    if isinstance(device, int):
        device = f"{best_device().type}:{device}"
    name, _, index = str(device).partition(":")
    if name.lower() == ANY_ACCELERATOR and (not index or index.isdigit()):
        if not has_accelerator():
            raise ValueError(
                f"this machine has no GPU that torch can use, and the device {str(device)!r} was asked for; use 'cpu',"
                " or install a torch that is built for the GPU."
            )
        name = best_device().type
    if name not in _NAMES or (index and not index.isdigit()):
        similar = difflib.get_close_matches(name, _NAMES, n=1)
        hint = f" did you mean {similar[0]!r}?" if similar and not index else ""
        known = ", ".join((ANY_ACCELERATOR, *_NAMES[:-1]))
        raise ValueError(f"unknown device {str(device)!r};{hint} known are {known}, with :N for one.")
    if name in ACCELERATORS:
        if not has_accelerator(name):
            raise ValueError(f"the device {str(device)!r} is not available here; use {str(best_device())!r}.")
        count = _backend(name).device_count()
        if index and int(index) >= count:
            raise ValueError(f"there is no device {str(device)!r}: this machine has {count} of that kind, from 0.")
    return torch.device(f"{name}:{index}" if index else name)


def means_accelerator(device: str | torch.device | None) -> bool:
    """Whether a name means an accelerator, be there one or not."""
    return str(device).partition(":")[0].lower() in (ANY_ACCELERATOR, *ACCELERATORS)


def supports_dtype(device: str | torch.device, dtype: torch.dtype) -> bool:
    """Whether tensors of that type can be held and computed with on the device (however slowly)."""
    kind = torch.device(device).type
    if not dtype.is_floating_point or dtype.itemsize < 2:
        return False
    if kind == "mps":
        return dtype in (torch.float32, torch.float16) or (dtype == torch.bfloat16 and _macos_version() >= 14)
    if kind == "cuda" and dtype == torch.bfloat16 and has_accelerator(kind):
        return bool(torch.cuda.is_bf16_supported())
    return True


@dataclass(frozen=True)
class DeviceSummary:
    """A device that can be used now."""

    name: str
    """As `parse_device` takes it."""
    title: str
    memory_bytes: int | None
    dtypes: tuple[str, ...]


def summarize_devices() -> list[DeviceSummary]:
    """All devices that can be used now, the best first and the CPU last."""
    rows = []
    for kind in ACCELERATORS:
        for index in range(_backend(kind).device_count() if has_accelerator(kind) else 0):
            name = kind if kind == "mps" else f"{kind}:{index}"
            if kind == "mps":
                title, memory = "Apple GPU", int(torch.mps.recommended_max_memory())
            else:
                properties = _backend(kind).get_device_properties(index)
                title, memory = str(properties.name), int(properties.total_memory)
            rows.append(DeviceSummary(name, title, memory, _dtype_names(name)))
    title = platform.processor() or platform.machine()
    return [*rows, DeviceSummary("cpu", title, physical_memory(), _dtype_names("cpu"))]


def _dtype_names(device: str) -> tuple[str, ...]:
    names = ("float32", "bfloat16", "float16")
    return tuple(name for name in names if supports_dtype(device, getattr(torch, name)))


@functools.cache
def physical_memory() -> int | None:
    """Bytes of memory that the machine has; None where that can't be found out."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def synchronize(device: str | torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    kind = torch.device(device).type
    if kind in ACCELERATORS and has_accelerator(kind):
        _backend(kind).synchronize()


_OUT_OF_MEMORY = re.compile(
    r"out of memory|DefaultCPUAllocator: (can't|cannot|not enough)|STATUS_ALLOC_FAILED", re.IGNORECASE
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of an accelerator or of the machine, did not suffice."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


def empty_cache(device: str | torch.device) -> None:
    """Give memory that torch holds in reserve back to the device."""
    kind = torch.device(device).type
    if kind in ACCELERATORS and has_accelerator(kind):
        _backend(kind).empty_cache()


def free_memory(device: str | torch.device) -> int:
    """Bytes that can be had now on a device; on a CPU, those that programs can still take of the machine's memory."""
    device = torch.device(device)
    if device.type in STREAMED:
        backend = _backend(device.type)
        idle = backend.memory_reserved(device) - backend.memory_allocated(device)  # what torch holds and does not use
        return int(backend.mem_get_info(device)[0]) + int(idle)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory()) - int(torch.mps.current_allocated_memory())
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        return physical_memory() or 0


def peak_memory(device: str | torch.device) -> int:
    """The most bytes in use so far: of the process on a CPU, else of torch's allocator on the accelerator."""
    device = torch.device(device)
    if device.type == "cpu":
        return _peak_resident()
    backend = _backend(device.type)
    if device.type == "mps":
        return int(backend.driver_allocated_memory())
    return int(backend.max_memory_allocated(device))


def reset_peak_memory(device: str | torch.device) -> None:
    """Start `peak_memory` anew; on a CPU, whose peak is the process's, nothing changes."""
    device = torch.device(device)
    if device.type in ("cuda", "xpu") and has_accelerator(device.type):
        _backend(device.type).reset_peak_memory_stats(device)


def has_streams(device: str | torch.device) -> bool:
    """Whether copies to the device can be made beside its computing."""
    kind = torch.device(device).type
    return kind in STREAMED and has_accelerator(kind)


class SideStream:
    """A stream of a device beside the one that computes; on a CPU, whose work is done at once, only in name."""

    def __init__(self, device: torch.device) -> None:
        self.device, self._backend = device, _backend(device.type)
        self._side = self._backend.Stream(device) if has_streams(device) else None

    def used(self) -> AbstractContextManager[Any]:
        """As long as it lasts, work goes to the side stream."""
        return nullcontext() if self._side is None else self._backend.stream(self._side)

    def mark(self) -> Any:
        """The point that the computing stream has been asked to reach so far; its `synchronize` waits for that."""
        event = self._backend.Event()
        event.record(self._backend.current_stream(self.device))
        return event

    def mark_side(self) -> Any:
        """The same of the side stream."""
        event = self._backend.Event()
        event.record(self._side)
        return event

    def wait_for(self, event: Any) -> None:
        """Have the computing stream wait for a mark."""
        if self._side is not None:
            self._backend.current_stream(self.device).wait_event(event)


def pinned_buffer(size: int) -> Tensor:
    """So many bytes of the host's memory, from which an accelerator can copy by itself."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=has_accelerator())


def _backend(kind: str) -> Any:
    return getattr(torch, kind)


def _is_available(kind: str) -> bool:
    backend = torch.backends.mps if kind == "mps" else getattr(torch, kind, None)
    return backend is not None and bool(backend.is_available())


def _macos_version() -> int:
    return int(platform.mac_ver()[0].partition(".")[0] or 0)


def _peak_resident() -> int:
    try:
        import resource
    except ImportError:  # there is no such module on Windows
        return 0
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024
