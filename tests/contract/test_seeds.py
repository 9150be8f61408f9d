"""The seed decides the video, and nothing else does."""

import random

import numpy as np
import torch

from tests.contract.runs import differs, over_all, seeded, shared, video


@over_all
def test_the_seed_decides_the_video(case):
    first = video(case, generator=seeded(1))
    assert torch.equal(video(case, generator=seeded(1)), first)
    assert differs(video(case, generator=seeded(2)), first)


@over_all
def test_the_global_seed_is_neither_read_nor_changed(case):
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first = video(case)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]
    torch.manual_seed(2)
    assert torch.equal(video(case), first)


@over_all
def test_without_a_generator_the_global_seed_decides(case):
    torch.manual_seed(1)
    first = video(case, generator=None)
    second = video(case, generator=None)
    torch.manual_seed(1)
    assert torch.equal(video(case, generator=None), first)
    assert differs(second, first)


@over_all
def test_a_generator_of_numpy_is_a_seed_too(case):
    first = video(case, generator=np.random.default_rng(1))
    assert torch.equal(video(case, generator=np.random.default_rng(1)), first)
    assert differs(video(case, generator=np.random.default_rng(2)), first)
    assert torch.equal(video(case, generator=[np.random.default_rng(1)]), first)


@over_all
def test_a_run_goes_on_where_the_generator_stands(case):
    generator = seeded()
    first = video(case, generator=generator)
    assert differs(video(case, generator=generator), first)


@over_all
def test_a_run_changes_nothing_in_the_pipeline(case):
    pipeline = shared(case.name)
    before = {
        name: dict(vars(item)) for name, item in {"": pipeline, **pipeline.components}.items() if item is not None
    }
    weights = [tensor.clone() for network in pipeline.networks.values() for tensor in network.state_dict().values()]
    video(case)
    assert {
        name: dict(vars(item)) for name, item in {"": pipeline, **pipeline.components}.items() if item is not None
    } == before
    after = [tensor for network in pipeline.networks.values() for tensor in network.state_dict().values()]
    assert all(torch.equal(*pair) for pair in zip(weights, after, strict=True))
