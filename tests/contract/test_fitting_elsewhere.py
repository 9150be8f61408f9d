"""Plans carried out on a device of its own: what comes to it is what was planned."""

from __future__ import annotations

import pytest
import torch

from filmstrip.fitting.plan import Planner, apply, usual_request
from tests.contract.runs import fresh, over, seeded
from tests.contract.test_fitting import FAMILIES
from tests.memory.counting import counts  # noqa: F401
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
