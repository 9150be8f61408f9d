"""The one denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from filmstrip.generation.events import Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.guidance import Condition, Predict
from filmstrip.generation.keeping import Keeper
from filmstrip.nn.noise import Generators
from filmstrip.schedulers import Run

Guidance = Callable[[Predict[Condition], Tensor, float], Tensor]


def denoise(
    predict: Predict[Condition],
    latents: Tensor,
    run: Run,
    guidance: Guidance[Condition],
    *,
    begin: int = 0,
    end: int | None = None,
    generator: Generators = None,
    keeper: Keeper | None = None,
    network: str = "transformer",
) -> Iterator[Step]:
    """Yield after every step; the loop goes on from what the reader leaves in `Step.latents`.

    Args:
        predict: runs the network for latents at a timestep under a condition.
        latents: noise, or latents as noisy as the schedule is before step `begin`.
        run: the schedule and the solver of this run.
        begin, end: the first step to be made, and the first that is not; all by default.
        guidance: makes one prediction out of those for several conditions.
        generator: source of the noise that stochastic solvers add.
        keeper: told of every step; knows those that an earlier run has made.
        network: the component's name in messages.
    """
    timesteps = run.timesteps.tolist()[begin:end]
    total, done = len(timesteps), 0
    if keeper is not None:
        yield from keeper.repeat_loop(run, latents, timesteps)
        done = keeper.kept_steps
        latents = keeper.kept_latents.to(latents.device)
    for index in range(done, total):
        prediction = guidance(predict, run.scale_input(latents, begin + index), timesteps[index])
        check_finite(prediction, network, f"step {index + 1} of {total}")
        stepped = run.step(prediction, begin + index, latents, generator=generator)
        step = Step(index, total, timesteps[index], stepped, latents)
        yield step
        latents = step.latents
        if keeper is not None:
            keeper.step(index + 1, total, latents, run)
