"""Weights that come and go: the same video to the bit, in bounded memory, with nothing left behind."""

from functools import cache

import pytest
import torch

from filmstrip.memory.residency import Grain, rooms
from tests.contract.registered import CASES
from tests.contract.runs import call, frames_of, fresh, over_all, over_those_with, seeded, video
from tests.memory.stand_in import offloaded, present

GRAINS = [
    pytest.param(Grain("components"), False, id="components"),
    pytest.param(Grain("leaves"), False, id="leaves"),
    pytest.param(Grain("blocks", 1), False, id="blocks"),
    pytest.param(Grain("blocks", 2), True, id="blocks on a stream"),
]
over_grains = pytest.mark.parametrize(("grain", "streamed"), GRAINS)


def bound(pipeline, streamed):
    """The most bytes that may be on the device."""
    pairs = pipeline._work_together
    networks = pipeline.networks
    units = {unit for network in networks.values() for room in rooms(network, "_placement") for unit in room.units}
    at_once = 2 if streamed else 1

    def needed(names):
        theirs = [unit for unit in units if unit.company in names]
        passing = sorted((unit.nbytes for unit in theirs if not unit.stays), reverse=True)
        return sum(unit.nbytes for unit in theirs if unit.stays) + sum(passing[:at_once])

    sets = [{name} - set(pairs) or set(pairs) for name in networks]
    return max(needed(names) for names in sets)


@cache
def expected(case_name):
    """The video of a case as it is without offloading."""
    return video(next(case for case in CASES if case.name == case_name))


@over_all
@over_grains
def test_offloading_changes_nothing_but_the_memory(case, grain, streamed):
    pipeline = fresh(case)
    encoders = {name for name in pipeline.networks if name.startswith("text_encoder")}
    with offloaded(pipeline.networks, grain, streamed=streamed, together=pipeline._work_together) as device:
        for event in pipeline.stream(**arguments_of(case)):
            if event.stage == "denoise":
                assert not encoders & set(present(pipeline.networks)), "a text encoder is there while it has no work"
        assert torch.equal(frames_of(event.output), expected(case.name))
        assert (present(pipeline.networks), device.now) == ([], 0)
        if streamed:  # the order of groups is known by now
            assert torch.equal(video(case, pipeline), expected(case.name))
    assert 0 < device.most <= bound(pipeline, streamed)


@over_those_with("callback_on_step_end")
def test_an_error_in_the_middle_leaves_nothing_behind(case):
    pipeline = fresh(case)

    def fail(*_):
        raise KeyboardInterrupt

    with offloaded(pipeline.networks, Grain("components"), together=pipeline._work_together) as device:
        with pytest.raises(KeyboardInterrupt):
            call(case, pipeline, callback_on_step_end=fail)
        assert (present(pipeline.networks), device.now) == ([], 0)
        assert device.most > 0
        assert torch.equal(video(case, pipeline), expected(case.name))


@over_all
def test_a_run_that_nobody_reads_on_leaves_nothing_behind(case):
    pipeline = fresh(case)
    with offloaded(pipeline.networks, Grain("blocks"), streamed=True, together=pipeline._work_together) as device:
        events = pipeline.stream(**arguments_of(case))
        assert any(event.stage == "denoise" for event in events)
        assert present(pipeline.networks)
        events.close()
        assert (present(pipeline.networks), device.now) == ([], 0)
        assert torch.equal(video(case, pipeline), expected(case.name))


def arguments_of(case):
    """A call as `stream` takes it."""
    return {"generator": seeded(), "output_type": "pt", **case.call}
