"""A batch equals a loop; runs that share a pipeline do not disturb each other."""

from contextlib import suppress

import pytest
import torch

from filmstrip.generation.session import run
from tests.contract.registered import CASES
from tests.contract.runs import (
    close,
    differs,
    frames_of,
    over,
    over_all,
    over_those_with,
    request,
    seeded,
    shared,
    video,
)

BATCHES = [case for case in CASES if case.singles]


@over(BATCHES)
def test_a_batch_equals_a_loop(case):
    alone = [video(case, **single, generator=seeded(seed)) for seed, single in enumerate(case.singles)]
    close(video(case, **case.batch, generator=[seeded(0), seeded(1)]), torch.cat(alone))
    assert differs(alone[0], alone[1])


@over_those_with("num_videos_per_prompt")
def test_videos_per_prompt_equal_a_loop(case):
    alone = [
        video(case, **single, generator=seeded(2 * row + column))
        for row, single in enumerate(case.singles)
        for column in range(2)
    ]
    generators = [seeded(seed) for seed in range(4)]
    close(video(case, **case.batch, num_videos_per_prompt=2, generator=generators), torch.cat(alone))


@over_those_with("num_videos_per_prompt")
def test_videos_per_prompt_differ_under_one_generator(case):
    first, second = video(case, num_videos_per_prompt=2)
    assert differs(first, second)


@over(BATCHES)
@pytest.mark.parametrize("number", [1, 3])
def test_a_wrong_number_of_generators_is_refused(case, number):
    with pytest.raises(ValueError, match=f"{number} generators were given for 2 videos"):
        request(case, **case.batch, generator=[seeded()] * number)


@over_all
def test_something_else_than_a_generator_is_refused(case):
    with pytest.raises(ValueError, match="generator must be a"):
        request(case, generator=42)


@over_all
def test_interleaved_runs_equal_the_same_runs_in_turn(case):
    pipeline = shared(case.name)

    def start(seed):
        return run(pipeline, request(case, generator=seeded(seed)))

    in_turn = [frames_of(list(start(seed))[-1].output) for seed in (1, 2)]
    runs = [start(1), start(2)]
    interleaved = {}
    while runs:  # two runs of different lengths would do as well
        for events in list(runs):
            with suppress(StopIteration):
                interleaved[id(events)] = next(events)
                continue
            runs.remove(events)
    first, second = (frames_of(event.output) for event in interleaved.values())
    assert torch.equal(first, in_turn[0])
    assert torch.equal(second, in_turn[1])
