"""Threads that share a pipeline give what their calls give in turn: a run changes no pipeline and no network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from filmstrip.generation.session import run
from filmstrip.memory.coding import decoding_ways
from filmstrip.resume.journal import FileJournal
from tests.contract.registered import Case
from tests.contract.runs import call, frames_of, fresh, over_all, request, seeded, set_to, video

Work = Callable[[], torch.Tensor]


def another_scheduler(case: Case, pipeline: Any) -> Any:
    """A pipeline that shares the networks and has another scheduler, or the same if it has none."""
    scheduler = pipeline.components.get("scheduler")
    if scheduler is None:
        return pipeline
    other = {name: value for name, value in (("shift", 2.0), ("beta_end", 0.02)) if name in scheduler.config}
    return type(pipeline).from_pipe(pipeline, scheduler=type(scheduler).from_config(scheduler.config, **other))


def kept_in_tiles(case: Case, pipeline: Any, folder: Any) -> Any:
    """The file of a run whose latents are finished, and that is to be decoded in the smallest parts."""
    path = folder / "kept"
    with set_to(pipeline.vae, decoding_ways(pipeline.vae)[-1]):
        for event in run(pipeline, request(case, pipeline, generator=seeded(3)), FileJournal(path)):
            if event.stage == "decode":
                break  # what is kept stays
    return path


def works(case: Case, pipeline: Any, folder: Any) -> list[Work]:
    """Calls that differ in what a careless run would leave on what it shares."""
    path = kept_in_tiles(case, pipeline, folder)
    content = path.read_bytes()

    def finished() -> torch.Tensor:
        own = folder / f"{threading.get_ident()}"
        own.write_bytes(content)
        frames: torch.Tensor = frames_of(pipeline.finish(own))
        return frames

    larger: dict[str, Any] = {}
    if case.takes("height"):
        larger["height"] = 2 * request(case, pipeline).size.height
    if case.takes("num_inference_steps", "callback_on_step_end"):
        larger |= {
            "num_inference_steps": case.call["num_inference_steps"] + 1,
            "callback_on_step_end": lambda _, step, __, tensors: {"latents": tensors["latents"] * 0.9},
        }
    other = another_scheduler(case, pipeline)
    return [
        partial(video, case, pipeline),
        finished,
        lambda: frames_of(call(case, pipeline, generator=seeded(8), **larger)),
        lambda: video(case, other, generator=seeded(9)),
    ]


def together(several: list[Work]) -> list[torch.Tensor]:
    """What works give that begin at the same moment, each in a thread of its own."""
    barrier, results = threading.Barrier(len(several)), {}

    def do(index: int) -> None:
        barrier.wait()
        try:
            results[index] = several[index]()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=do, args=(index,)) for index in range(len(several))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results.values():
        if isinstance(result, BaseException):
            raise result
    return [results[index] for index in range(len(several))]


@over_all
def test_two_and_four_threads_give_what_calls_in_turn_give(case, tmp_path):
    pipeline = fresh(case)
    four = works(case, pipeline, tmp_path)
    expected = [work() for work in four]
    assert not torch.equal(expected[0], expected[1]) and not torch.equal(expected[0], expected[3])
    for several in (four, four[:2]):
        for index, found in enumerate(together(several)):
            assert torch.equal(found, expected[index]), f"thread {index} of {len(several)}"


@over_all
def test_a_run_that_is_cancelled_changes_nothing_for_another(case):
    pipeline = fresh(case)
    expected = video(case, pipeline)
    events = run(pipeline, request(case, pipeline, generator=seeded(5)))
    next(events)
    next(events)
    [found] = together([partial(video, case, pipeline)])
    events.close()
    assert torch.equal(found, expected)
    assert torch.equal(video(case, pipeline), expected)


def test_an_error_in_a_thread_is_seen():
    with pytest.raises(ZeroDivisionError):
        together([lambda: torch.zeros(1), lambda: 1 / 0])
