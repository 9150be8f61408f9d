"""A run that is broken off leaves the pipeline as it was."""

import pytest
import torch

from filmstrip.generation.session import run
from tests.contract.registered import CASES
from tests.contract.runs import over, over_all, request, shared, video

STEPS = [case for case in CASES if case.takes("num_inference_steps")]


@over_all
@pytest.mark.parametrize("stage", ["encode", "denoise", "decode"])
def test_a_pipeline_is_usable_after_a_run_was_closed(case, stage):
    before = video(case)
    events = run(shared(case.name), request(case))
    assert any(event.stage == stage for event in events)  # reads up to the first event of the stage
    events.close()
    assert torch.equal(video(case), before)


class Stopped(Exception):
    pass


@over(case for case in STEPS if case.takes("callback_on_step_end"))
def test_a_pipeline_is_usable_after_a_callback_failed(case):
    def fail(*_):
        raise Stopped

    before = video(case)
    with pytest.raises(Stopped):
        video(case, callback_on_step_end=fail)
    assert torch.equal(video(case), before)


@over(STEPS)
def test_a_pipeline_is_usable_after_it_refused_a_request(case):
    before = video(case)
    with pytest.raises(ValueError):
        video(case, num_inference_steps=0)
    assert torch.equal(video(case), before)
    assert torch.is_grad_enabled()
