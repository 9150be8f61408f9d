"""Noise schedules, and the solvers that follow them."""

from filmstrip.schedulers.base import Run, Scheduler, SchedulerOutput
from filmstrip.schedulers.ddim import DDIMInverseScheduler, DDIMScheduler
from filmstrip.schedulers.flow_match_euler import FlowMatchEulerDiscreteScheduler, FlowMatchEulerRun
from filmstrip.schedulers.schedule import calculate_shift, linear_quadratic_schedule

__all__ = [
    "DDIMInverseScheduler",
    "DDIMScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchEulerRun",
    "Run",
    "Scheduler",
    "SchedulerOutput",
    "calculate_shift",
    "linear_quadratic_schedule",
]
