"""The one denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from filmstrip.generation.events import Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.guidance import Condition, Predict
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
        network: the component's name in messages.
    """
    timesteps = run.timesteps.tolist()[:end]
    for index in range(begin, len(timesteps)):
        prediction = guidance(predict, run.scale_input(latents, index), timesteps[index])
        check_finite(prediction, network, f"step {index - begin + 1} of {len(timesteps) - begin}")
        latents = run.step(prediction, index, latents, generator=generator)
        step = Step(index - begin, len(timesteps) - begin, timesteps[index], latents)
        yield step
        latents = step.latents
