"""The one denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from filmstrip.generation.events import Step
from filmstrip.generation.finite import check_finite
from filmstrip.generation.guidance import Given, Predict
from filmstrip.generation.journal import Journal
from filmstrip.randomness import Generators
from filmstrip.schedulers import Run


def denoise(
    predict: Predict[Given],
    latents: Tensor,
    run: Run,
    guidance: Callable[[Predict[Given], Tensor, float], Tensor],
    *,
    begin: int = 0,
    end: int | None = None,
    generator: Generators = None,
    journal: Journal | None = None,
    network: str = "transformer",
) -> Iterator[Step]:
    """Yield after every step; the loop goes on from what the reader leaves in `Step.latents`.

    Args:
        predict: runs the network for latents at a timestep, with what it is given beside them.
        latents: noise, or latents as noisy as the schedule is before step `begin`.
        run: the schedule and the solver of this run.
        begin, end: the first step to be made, and the first that is not; all by default.
        guidance: makes one prediction out of those under several conditions.
        generator: source of the noise that stochastic solvers add.
        journal: told of every step; knows those that an earlier run has made.
        network: the component's name in messages.
    """
    journal = journal or Journal()
    timesteps = run.timesteps.tolist()[begin:end]
    total = len(timesteps)
    done, latents = yield from journal.loop(run, latents, timesteps)
    for index in range(done, total):
        prediction = guidance(predict, run.scale_input(latents, begin + index), timesteps[index])
        check_finite(prediction, network, f"step {index + 1} of {total}")
        stepped = run.step(prediction, begin + index, latents, generator=generator)
        step = Step(index, total, timesteps[index], stepped, latents)
        yield step
        latents = step.latents
        journal.step(index + 1, total, latents, run)
