"""One step of every solver: flow matching on packed LTX-Video latents, the others on 13 latent frames at 60x90.

    python benchmarks/scheduler_step.py [--pairs 50] [--only NAME]

Each side by the call that its pipelines make: ours `Run.step`, the reference's `step(..., return_dict=False)`. Solvers
with a memory are measured over eight steps, from the eleventh of fifty on.
"""

from __future__ import annotations

import argparse
import inspect
import logging
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from _pairs import HEADER, compare
from torch import Tensor

import filmstrip

FLOW = "FlowMatchEulerDiscreteScheduler"
SOLVERS: list[tuple[str, dict[str, Any]]] = [
    ("CogVideoXDDIMScheduler", {}),
    ("CogVideoXDPMScheduler", {}),
    ("DDIMScheduler", {"clip_sample": False}),
    ("DDPMScheduler", {"clip_sample": False}),
    ("DEISMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("DPMSolverSinglestepScheduler", {}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", {}),
    ("KDPM2DiscreteScheduler", {}),
    ("LCMScheduler", {}),
    ("LMSDiscreteScheduler", {}),
    ("PNDMScheduler", {"skip_prk_steps": True}),
    ("UniPCMultistepScheduler", {}),
]
STEPS = range(10, 18)


def our_steps(scheduler: Any, predictions: list[Tensor], latents: Tensor) -> Callable[[], Tensor]:
    generator = {"generator": torch.Generator().manual_seed(0)}
    run = scheduler.start(50, **(generator if "generator" in inspect.signature(scheduler.start).parameters else {}))

    def steps() -> Tensor:
        current = latents
        for index, prediction in zip(STEPS, predictions, strict=True):
            current = run.step(prediction, index, current)
        return current

    return steps


def reference_steps(scheduler: Any, predictions: list[Tensor], latents: Tensor) -> Callable[[], Tensor]:
    scheduler.set_timesteps(50)
    generator = {"generator": torch.Generator().manual_seed(0)}
    more = generator if "generator" in inspect.signature(scheduler.step).parameters else {}
    is_dpm = type(scheduler).__name__ == "CogVideoXDPMScheduler"
    scheduler.is_scale_input_called = True

    def steps() -> Tensor:
        current, denoised = latents, None
        scheduler._step_index = STEPS[0]  # as if the steps before had been taken
        for index, prediction in zip(STEPS, predictions, strict=True):
            timestep = scheduler.timesteps[index]
            if is_dpm:
                before = scheduler.timesteps[index - 1]
                current, denoised = scheduler.step(
                    prediction, denoised, timestep, before, current, generator=generator["generator"], return_dict=False
                )
            else:
                current = scheduler.step(prediction, timestep, current, return_dict=False, **more)[0]
        return current

    return steps


def measure_flow(pairs: int) -> None:
    for tokens in (2016, 16000):
        latents, prediction = torch.randn(2, 1, tokens, 128)
        run = filmstrip.FlowMatchEulerDiscreteScheduler().start(50)
        theirs = diffusers.FlowMatchEulerDiscreteScheduler()
        theirs.set_timesteps(50)
        timestep = theirs.timesteps[10]

        def reference(
            theirs: diffusers.FlowMatchEulerDiscreteScheduler = theirs,
            timestep: Tensor = timestep,
            prediction: Tensor = prediction,
            latents: Tensor = latents,
        ) -> Tensor:
            theirs._step_index = 10  # as if it were always the same step
            return theirs.step(prediction, timestep, latents, return_dict=False)[0]

        def ours(run=run, prediction=prediction, latents=latents) -> Tensor:
            return run.step(prediction, 10, latents)

        torch.testing.assert_close(ours(), reference())
        compare(f"flow matching, {tokens} tokens", ours, reference, 0.2, pairs)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--only", default="", help="part of a solver's name")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    print(HEADER)
    if options.only in FLOW:
        measure_flow(options.pairs)
    for dtype in (torch.float32, torch.bfloat16):
        latents, *predictions = torch.randn(1 + len(STEPS), 1, 13, 16, 60, 90).to(dtype)
        for name, settings in SOLVERS:
            if options.only not in name:
                continue
            kinds = (getattr(library, name) for library in (filmstrip, diffusers))
            ours, theirs = (kind(prediction_type="v_prediction", **settings) for kind in kinds)
            label = name.removesuffix("Scheduler") + (" SDE" if "algorithm_type" in settings else "")
            compare(
                f"{label}, {str(dtype).removeprefix('torch.')}",
                our_steps(ours, predictions, latents),
                reference_steps(theirs, predictions, latents),
                0.2,
                max(options.pairs // 8, 3),
            )


if __name__ == "__main__":
    main()
