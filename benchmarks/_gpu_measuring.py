"""What is measured of a call on an accelerator: seconds by its own events, operations, bytes, and kernels launched."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from filmstrip import devices

Call = Callable[[], Any]
LEAST_REPEATS, MOST_REPEATS = 2, 20


def timed(call: Call, device: torch.device) -> float:
    """Seconds of one call, by the device's own clock where it has one."""
    if device.type == "cpu":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    start, end = (torch.get_device_module(device).Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def seconds_in_turn(calls: dict[str, Call], device: torch.device, budget: float) -> dict[str, list[float]]:
    """Seconds of each call, by its name: one after the other and over again, until the budget is spent."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for repeat in range(MOST_REPEATS):
        for name, call in calls.items():
            found[name].append(timed(call, device))
        if repeat + 1 >= LEAST_REPEATS and time.perf_counter() - begin > budget:
            break
    return found


def median(seconds: list[float]) -> float:
    return statistics.median(seconds)


def spread(seconds: list[float]) -> float:
    """How far apart the quickest and the slowest are, by the median."""
    return (max(seconds) - min(seconds)) / median(seconds)


def peak_of(call: Call, device: torch.device) -> int:
    """The most bytes that a call held beside those in use before it; 0 on a CPU, whose allocator does not count."""
    if device.type == "cpu":
        call()
        return 0
    devices.synchronize(device)
    devices.empty_cache(device)
    devices.reset_peak_memory(device)
    before = devices.peak_memory(device)
    call()
    devices.synchronize(device)
    return devices.peak_memory(device) - before


def operations(call: Call) -> int:
    """Multiplications and additions of the products, convolutions and attention of a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def launches(call: Call, device: torch.device) -> int:
    """Kernels that a call launches; on a CPU the operations that it calls."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type != "cpu":
        activities.append(getattr(torch.profiler.ProfilerActivity, device.type.upper()))
    with torch.profiler.profile(activities=activities) as profile:
        call()
        devices.synchronize(device)
    names = (event.name() for event in profile.profiler.kineto_results.events())
    if device.type == "cpu":
        return sum(name.startswith("aten::") for name in names)
    return sum("LaunchKernel" in name for name in names)


def product_rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Operations per second that a large product of matrices reaches."""
    some, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = [timed(lambda: some @ other, device) for _ in range(13)]
    return 2 * side**3 / median(seconds[3:])


def copy_rate(device: torch.device, nbytes: int) -> float:
    """Bytes per second of a copy within the device, those read and those written."""
    source = torch.empty(nbytes, dtype=torch.uint8, device=device).random_(0, 255)
    target = torch.empty_like(source)
    seconds = [timed(lambda: target.copy_(source), device) for _ in range(13)]
    return 2 * nbytes / median(seconds[3:])


def difference(ours: Tensor, reference: Tensor) -> float:
    """Norm of the difference by the norm of the reference."""
    assert ours.shape == reference.shape, f"{tuple(ours.shape)} is not {tuple(reference.shape)}"
    return float((ours.float() - reference.float()).norm() / reference.float().norm())
