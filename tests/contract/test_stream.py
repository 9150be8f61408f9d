"""`stream` is the call as the events that it consists of."""

import pytest
import torch

from tests.contract.runs import frames_of, over_all, seeded, shared, video


@over_all
def test_the_last_event_of_a_stream_carries_what_the_call_returns(case):
    events = list(shared(case.name).stream(**{**case.call, "generator": seeded(), "output_type": "pt"}))
    assert [event.stage for event in events[:2]] == ["encode", "encode"]
    assert torch.equal(frames_of(events[-1].output), video(case))


@over_all
def test_a_stream_refuses_bad_arguments_before_its_first_event(case):
    with pytest.raises(ValueError, match="num_frams"):
        shared(case.name).stream(**{**case.call, "num_frams": 9})
