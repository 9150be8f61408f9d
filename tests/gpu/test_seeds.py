"""The seed decides the video on an accelerator as on a CPU, wherever the generator lives."""

import pytest
import torch

from tests.contract.runs import differs, over, over_all, seeded, video
from tests.gpu.accelerator import DEVICE, FAMILIES, ONE_OF_EACH, needs_real, on_device, there

pytestmark = pytest.mark.gpu


def generator_there(seed):
    return torch.Generator(DEVICE).manual_seed(seed)


@over_all
def test_two_runs_give_the_same_video(case):
    assert torch.equal(video(case, there(case)).cpu(), on_device(case.name))


@over(FAMILIES)
def test_a_run_leaves_the_pipeline_as_it_was(case):
    pipeline = there(case)
    first = video(case, pipeline)
    assert differs(video(case, pipeline, generator=seeded(1)), first)
    assert torch.equal(video(case, pipeline), first)


@needs_real
@over(ONE_OF_EACH)
def test_a_generator_may_live_on_the_accelerator(case):
    pipeline = there(case)
    first = video(case, pipeline, generator=generator_there(1))
    assert torch.equal(video(case, pipeline, generator=generator_there(1)), first)
    assert differs(video(case, pipeline, generator=generator_there(2)), first)


@needs_real
@over(FAMILIES)
def test_without_a_generator_the_accelerators_own_seed_decides(case):
    pipeline = there(case)
    torch.manual_seed(1)  # seeds every device
    first = video(case, pipeline, generator=None)
    second = video(case, pipeline, generator=None)
    torch.manual_seed(1)
    assert torch.equal(video(case, pipeline, generator=None), first)
    assert differs(second, first)
