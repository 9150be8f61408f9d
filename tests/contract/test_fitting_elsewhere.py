"""Plans carried out on a device of its own: what comes to it is what was planned."""

from __future__ import annotations

import pytest
import torch

from filmstrip.fitting.plan import Plan, Planner, apply
from filmstrip.fitting.rehearsal import STAGES
from filmstrip.fitting.usual import usual_request
from filmstrip.generation.session import run
from tests.contract.runs import fresh, over, seeded
from tests.contract.test_fitting import FAMILIES
from tests.contract.test_footprint import KERNELS
from tests.memory.counting import counts, on_device  # noqa: F401
from tests.memory.other_device import OTHER, install


@pytest.fixture(autouse=True)
def other_device(monkeypatch):
    install(monkeypatch)


@over(FAMILIES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_weights_come_as_planned(case, share, counts):  # noqa: F811
    pipeline = fresh(case)
    planner = Planner(pipeline, usual_request(pipeline, case.call), OTHER)
    most, least = planner.plan(10**9).peak, planner.least().memory
    plan = planner.plan(int(least + share * max(0, most - least)))
    apply(plan, pipeline)

    *_, last = pipeline.stream(**case.call, generator=seeded(), output_type="pt")

    frames = next(iter(last.output.values()))
    assert torch.isfinite(frames.cpu()).all()
    if plan.chosen("residency") is not None:
        assert 0 < counts.most <= plan.peak
    else:
        assert counts.most == 0


class Staged:
    """A recipe that tells where each stage begins."""

    def __init__(self, recipe, enter):
        self._recipe, self._enter = recipe, enter

    def __getattr__(self, name):
        return getattr(self._recipe, name)

    def encode(self, *given):
        self._enter("encode")
        return self._recipe.encode(*given)

    def steps(self, *given):
        self._enter("denoise")
        yield from self._recipe.steps(*given)

    def decode(self, *given):
        self._enter("decode")
        yield from self._recipe.decode(*given)


def residencies(planner):
    """The ways to keep weights, one for each mixture of grains: those that differ in which networks come whole."""
    return [whole for whole in planner.alternatives.whole if whole[0].value is None and whole[1].value is not None]


@over(FAMILIES)
def test_what_is_planned_is_what_is_on_the_device(case, on_device):  # noqa: F811
    pipeline = fresh(case)
    planner = Planner(pipeline, usual_request(pipeline, case.call), OTHER)
    for whole in residencies(planner):
        apply(Plan(10**9, str(OTHER), whole, {"decode": 1}, {}), pipeline)
        before = on_device.now
        on_device.most.clear()
        request = pipeline.request(**case.call, generator=seeded(), output_type="pt")
        for event in run(Staged(pipeline, on_device.enter), request, collect=False):
            del event
        for stage, most in on_device.most.items():
            if stage in STAGES:
                planned = planner.need(stage, whole, ())
                assert most - before == pytest.approx(planned, rel=0.1, abs=KERNELS / 16), (stage, whole[1].said)
