"""Timing ours and the reference in turn, in one process and one thread, and printing the ratios; peaks of memory.

CPU seconds of the thread decide: on a shared machine wall seconds say as much about the neighbours.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

HEADER = f"{'':44}{'ours':>11}{'reference':>11}{'ratio':>7}{'target':>8}{'wall':>7}"


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of one call."""
    wall, cpu = time.perf_counter(), time.thread_time()
    call()
    return time.thread_time() - cpu, time.perf_counter() - wall


def peak_bytes(call: Callable[[], object]) -> int:
    """The most bytes that a call's allocations held at a time."""
    with torch.profiler.profile(profile_memory=True) as profile:
        call()
    alive = most = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            alive += event.nbytes()
            most = max(most, alive)
    return most


def row(name: str, ours: float, reference: float, target: float | None, unit: str, wall: float | None = None) -> None:
    """Print one line: two numbers, their ratio, the ratio aimed at and, for times, the ratio of wall seconds."""
    numbers = f"{ours:>8.4g} {unit:2}{reference:>8.4g} {unit:2}{ours / reference:>7.2f}"
    aim = f"<= {target:g}" if target is not None else "-"
    print(f"{name:44}{numbers}{aim:>8}{'' if wall is None else f'{wall:7.2f}'}", flush=True)


def compare(
    name: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    target: float | None = None,
    pairs: int = 5,
    warm_up: bool = True,
) -> None:
    """Time both in turn, after a first call of each if asked for, and print the medians in milliseconds."""
    torch.set_num_threads(1)
    if warm_up:
        ours(), reference()
    measured = [(*seconds(ours), *seconds(reference)) for _ in range(pairs)]
    cpu, wall, their_cpu, their_wall = (statistics.median(column) for column in zip(*measured, strict=True))
    row(name, cpu * 1e3, their_cpu * 1e3, target, "ms", wall / their_wall)
