"""Unfinished runs on a device of its own, whose tensors never mix with the CPU's."""

import logging

import pytest
import torch

from filmstrip.generation.session import run
from filmstrip.memory.residency import Grain, execution_device, place
from filmstrip.resume.journal import FileJournal
from filmstrip.resume.unfinished import read_unfinished
from tests.contract.registered import CASES
from tests.contract.runs import close, frames_of, fresh, over, request, video
from tests.memory.other_device import OTHER, install

# Every so many of the cases, since a device of its own is slow: what they have in common is what is tested here.
STEPS = [case for case in CASES if case.takes("num_inference_steps")][::5]
SOME = CASES[::4]


@pytest.fixture(autouse=True)
def other_device(monkeypatch):
    install(monkeypatch)


def there(case, *, is_offloaded=False):
    """A case's pipeline on the device."""
    pipeline = fresh(case)
    if is_offloaded:
        place(pipeline.networks, OTHER, Grain("leaves"))
    else:
        for network in pipeline.networks.values():
            network.to(OTHER)
    return pipeline


@over(STEPS)
def test_a_run_goes_on_where_its_networks_are(case, tmp_path):
    path = tmp_path / "kept"
    arguments = {"num_inference_steps": 3}
    pipeline = there(case)
    events = run(pipeline, request(case, **arguments), FileJournal(path, every=1))
    assert any(event.stage == "denoise" and event.step == 2 for event in events)
    next(events)
    events.close()
    assert not read_unfinished(path).is_denoised
    frames = frames_of(there(case, is_offloaded=True).finish(path))
    assert frames.device == OTHER
    assert torch.equal(frames.cpu(), video(case, pipeline, **arguments).cpu())


@over(SOME)
def test_the_last_way_of_decoding_is_on_the_cpu(case, monkeypatch, caplog):
    pipeline = there(case, is_offloaded=case in SOME[::2])
    kind = type(pipeline.vae)
    stream = kind.decode_stream

    def fail_there(self, *args, **kwargs):
        if execution_device(self) == OTHER:
            raise torch.OutOfMemoryError("out of memory")
        return stream(self, *args, **kwargs)

    monkeypatch.setattr(kind, "decode_stream", fail_there)
    with caplog.at_level(logging.WARNING):
        frames = video(case, pipeline)
    assert "continues on the CPU" in caplog.text
    assert frames.device.type == "cpu" and execution_device(pipeline.vae) == OTHER
    close(frames, video(case))
