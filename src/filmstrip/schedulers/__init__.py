"""Noise schedules, and the solvers that follow them."""

from filmstrip.schedulers.base import Scheduler, SchedulerOutput
from filmstrip.schedulers.ddim import DDIMInverseScheduler, DDIMScheduler
from filmstrip.schedulers.ddpm import DDPMScheduler
from filmstrip.schedulers.deis import DEISMultistepScheduler
from filmstrip.schedulers.dpm import DPMSolverMultistepScheduler
from filmstrip.schedulers.dpm_singlestep import DPMSolverSinglestepScheduler
from filmstrip.schedulers.edm import EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from filmstrip.schedulers.euler import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from filmstrip.schedulers.flow_match_euler import FlowMatchEulerDiscreteScheduler, FlowMatchEulerRun
from filmstrip.schedulers.flow_match_heun import FlowMatchHeunDiscreteScheduler
from filmstrip.schedulers.heun import HeunDiscreteScheduler
from filmstrip.schedulers.kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler
from filmstrip.schedulers.lcm import LCMScheduler
from filmstrip.schedulers.lms import LMSDiscreteScheduler
from filmstrip.schedulers.pndm import PNDMScheduler
from filmstrip.schedulers.runs import Run
from filmstrip.schedulers.sa_solver import SASolverScheduler
from filmstrip.schedulers.schedule import calculate_shift, linear_quadratic_schedule
from filmstrip.schedulers.tcd import TCDScheduler
from filmstrip.schedulers.unipc import UniPCMultistepScheduler

__all__ = [
    "DDIMInverseScheduler",
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchEulerRun",
    "FlowMatchHeunDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "Run",
    "SASolverScheduler",
    "Scheduler",
    "SchedulerOutput",
    "TCDScheduler",
    "UniPCMultistepScheduler",
    "calculate_shift",
    "linear_quadratic_schedule",
]
