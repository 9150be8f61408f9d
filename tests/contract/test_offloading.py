"""Weights that come and go: the same video to the bit, in bounded memory, with nothing left behind.

The device is one of its own, whose tensors never mix with the CPU's: a weight that was not brought, and an input that
was put where the weights wait, is an error.
"""

from functools import cache

import pytest
import torch

from filmstrip.memory.residency import PLACED, Grain, place, rooms
from filmstrip.roles import Role
from tests.contract.registered import CASES
from tests.contract.runs import call, frames_of, fresh, over_all, over_those_with, seeded, video
from tests.memory.counting import counts, present  # noqa: F401
from tests.memory.other_device import OTHER, install

GRAINS = [
    pytest.param(Grain("components"), False, id="components"),
    pytest.param(Grain("leaves"), False, id="leaves"),
    pytest.param(Grain("blocks", 1), False, id="blocks"),
    pytest.param(Grain("blocks", 2), True, id="blocks on a stream"),
]


@pytest.fixture(autouse=True)
def other_device(monkeypatch):
    install(monkeypatch)


@cache
def expected(case_name):
    """The video of a case whose networks are on the device as a whole."""
    case = next(case for case in CASES if case.name == case_name)
    pipeline = fresh(case)
    for network in pipeline.networks.values():
        network.to(OTHER)
    made = video(case, pipeline)
    assert made.device == OTHER
    return made.cpu()


def offloaded(case, grain, streamed=False):
    """A case's pipeline with its weights at home."""
    pipeline = fresh(case)
    place(pipeline.networks, OTHER, grain, streamed=streamed, together=pipeline._work_together)
    return pipeline


def is_expected(case, frames):
    return torch.equal(frames.cpu(), expected(case.name))


def arguments_of(case):
    """A call as `stream` takes it."""
    return {"generator": seeded(), "output_type": "pt", **case.call}


def bound(pipeline, streamed):
    """The most bytes that may be on the device."""
    units = {unit for network in pipeline.networks.values() for room in rooms(network, PLACED) for unit in room.units}
    together = set(pipeline._work_together)

    def needed(names):
        theirs = [unit for unit in units if unit.company in names]
        passing = sorted((unit.nbytes for unit in theirs if not unit.stays), reverse=True)
        return sum(unit.nbytes for unit in theirs if unit.stays) + sum(passing[: 2 if streamed else 1])

    return max(needed(together if name in together else {name}) for name in pipeline.networks)


@over_all
@pytest.mark.parametrize(("grain", "streamed"), GRAINS)
def test_offloading_changes_nothing_but_the_memory(case, grain, streamed, counts):  # noqa: F811
    pipeline = offloaded(case, grain, streamed)
    encoders = set(pipeline.named(Role.TEXT_ENCODER))
    for event in pipeline.stream(**arguments_of(case)):
        if event.stage == "denoise":
            assert not encoders & set(present(pipeline.networks)), "a text encoder is there while it has no work"
    assert is_expected(case, frames_of(event.output))
    assert (present(pipeline.networks), counts.now) == ([], 0)
    if streamed:  # the order of groups is known by now
        assert is_expected(case, video(case, pipeline))
    assert 0 < counts.most <= bound(pipeline, streamed)
    assert pipeline.device.type == "cpu"


@over_those_with("callback_on_step_end")
def test_an_error_in_the_middle_leaves_nothing_behind(case, counts):  # noqa: F811
    pipeline = offloaded(case, Grain("components"))

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(case, pipeline, callback_on_step_end=fail)
    assert counts.most > 0
    assert (present(pipeline.networks), counts.now) == ([], 0)
    assert is_expected(case, video(case, pipeline))


@over_all
def test_a_run_that_nobody_reads_on_leaves_nothing_behind(case, counts):  # noqa: F811
    pipeline = offloaded(case, Grain("blocks"), streamed=True)
    events = pipeline.stream(**arguments_of(case))
    assert any(event.stage == "denoise" for event in events)
    assert present(pipeline.networks)
    events.close()
    assert (present(pipeline.networks), counts.now) == ([], 0)
    assert is_expected(case, video(case, pipeline))


@over_all
def test_networks_may_come_in_grains_of_their_own(case):
    pipeline = fresh(case)
    names = list(pipeline.networks)
    blocks = dict.fromkeys(names[::2], Grain("blocks"))
    place(pipeline.networks, OTHER, Grain("components"), together=pipeline._work_together, but=blocks)
    assert is_expected(case, frames_of(list(pipeline.stream(**arguments_of(case)))[-1].output))
    assert not present(pipeline.networks)
