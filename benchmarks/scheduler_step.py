"""One step of FlowMatchEulerDiscreteScheduler on packed LTX-Video latents, 2,016 to 16,000 tokens.

    python benchmarks/scheduler_step.py [--pairs 50]

Each side by the call that its pipelines make: ours `Run.step`, the reference's `step(..., return_dict=False)`.
"""

from __future__ import annotations

import argparse

import diffusers
import torch
from _pairs import HEADER, compare

from filmstrip.schedulers.flow_match_euler import FlowMatchEulerDiscreteScheduler


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=50)
    pairs = parser.parse_args().pairs
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(HEADER)
    for tokens in (2016, 16000):
        latents, prediction = torch.randn(2, 1, tokens, 128)
        run = FlowMatchEulerDiscreteScheduler().start(50)
        theirs = diffusers.FlowMatchEulerDiscreteScheduler()
        theirs.set_timesteps(50)
        timestep = theirs.timesteps[10]

        def reference(
            theirs: diffusers.FlowMatchEulerDiscreteScheduler = theirs,
            timestep: torch.Tensor = timestep,
            prediction: torch.Tensor = prediction,
            latents: torch.Tensor = latents,
        ) -> torch.Tensor:
            theirs._step_index = 10  # as if it were always the same step
            return theirs.step(prediction, timestep, latents, return_dict=False)[0]

        def ours(run=run, prediction=prediction, latents=latents) -> torch.Tensor:
            return run.step(prediction, 10, latents)

        torch.testing.assert_close(ours(), reference())
        compare(f"step, {tokens} tokens", ours, reference, 0.2, pairs)


if __name__ == "__main__":
    main()
