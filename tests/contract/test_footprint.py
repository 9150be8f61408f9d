"""What is predicted about memory is what a run takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from filmstrip.fitting.rehearsal import STAGES, footprint
from filmstrip.generation.session import run
from tests.contract.runs import fresh, over_all

# What the kernels of tiny layers take for themselves is a share of their memory, and a matter of the processor.
KERNELS = 2**16


class Marked:
    """A recipe that leaves a mark in the profile where each stage begins."""

    def __init__(self, recipe: Any) -> None:
        self._recipe = recipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recipe, name)

    def encode(self, *given: Any) -> Any:
        _mark("encode")
        return self._recipe.encode(*given)

    def steps(self, *given: Any) -> Iterator[Any]:
        _mark("denoise")
        yield from self._recipe.steps(*given)

    def decode(self, *given: Any) -> Iterator[Any]:
        _mark("decode")
        yield from self._recipe.decode(*given)


def _mark(stage: str) -> None:
    with torch.profiler.record_function(f"stage {stage}"):
        pass


def measured(pipeline: Any, request: Any) -> dict[str, int]:
    """The most bytes that each stage's allocations held at a time."""
    events = run(Marked(pipeline), request, collect=False)
    with torch.profiler.profile(profile_memory=True) as profile:
        for event in events:
            del event
    alive, stage, peaks = 0, "encode", defaultdict(int)
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name().startswith("stage "):
            stage = event.name().removeprefix("stage ")
        elif event.name() == "[memory]":
            alive += event.nbytes()
        peaks[stage] = max(peaks[stage], alive)
    return dict(peaks)


@over_all
def test_the_memory_of_every_stage_is_known_before(case):
    pipeline = fresh(case)

    def request() -> Any:
        return pipeline.request(**case.call, generator=torch.Generator().manual_seed(0), output_type="pt")

    predicted, real = footprint(pipeline, request(), "cpu"), measured(pipeline, request())

    for stage in STAGES:
        assert predicted.activations(stage) == pytest.approx(real[stage], rel=0.1, abs=KERNELS), stage


@over_all
def test_a_prediction_changes_nothing(case):
    pipeline = fresh(case)
    before = {name: network.state_dict() for name, network in pipeline.networks.items()}
    generator = torch.Generator().manual_seed(0)
    request = pipeline.request(**case.call, generator=generator)
    state = generator.get_state()

    footprint(pipeline, request, "cpu")

    assert torch.equal(generator.get_state(), state)
    for name, network in pipeline.networks.items():
        assert all(torch.equal(value, before[name][key]) for key, value in network.state_dict().items())
        assert all(tensor.device.type == "cpu" for tensor in network.parameters())
