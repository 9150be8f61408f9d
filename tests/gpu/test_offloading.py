"""Weights that wait on the CPU and come to a real accelerator, over real streams and from pinned memory."""

import pytest
import torch
from torch import nn

from filmstrip import devices
from filmstrip.memory import couriers
from filmstrip.memory.residency import Grain, place, release, remove
from tests.contract.registered import CASES
from tests.contract.runs import call, frames_of, over, over_all, seeded, video
from tests.contract.runs import fresh as at_home
from tests.gpu.accelerator import DEVICE, FAMILIES, ONE_OF_EACH, needs_real, needs_streams, on_device

pytestmark = pytest.mark.gpu

WAYS = {
    "model": lambda pipeline: pipeline.enable_model_cpu_offload(device=DEVICE),
    "sequential": lambda pipeline: pipeline.enable_sequential_cpu_offload(device=DEVICE),
    "blocks": lambda pipeline: pipeline.enable_group_offload(DEVICE),
    "leaves": lambda pipeline: pipeline.enable_group_offload(DEVICE, offload_type="leaf_level"),
}
ON_A_STREAM = [
    *(pytest.param(case, {"num_blocks_per_group": 1}, id=f"{case.name}: blocks") for case in CASES),
    *(pytest.param(case, {"num_blocks_per_group": 2}, id=f"{case.name}: pairs of blocks") for case in ONE_OF_EACH),
    *(pytest.param(case, {"offload_type": "leaf_level"}, id=f"{case.name}: leaves") for case in ONE_OF_EACH),
]


def waits_on_the_cpu(pipeline):
    return all(tensor.device.type == "cpu" for network in pipeline.networks.values() for tensor in network.parameters())


def is_expected(case, made):
    return torch.equal(made.cpu(), on_device(case.name))


@over_all
@pytest.mark.parametrize("way", WAYS)
def test_offloading_changes_nothing(case, way):
    pipeline = at_home(case)
    WAYS[way](pipeline)
    made = video(case, pipeline)
    assert made.device.type == DEVICE.type
    assert is_expected(case, made)
    assert waits_on_the_cpu(pipeline)


@needs_streams
@pytest.mark.parametrize(("case", "groups"), ON_A_STREAM)
def test_streams_change_nothing_and_copy_from_pinned_memory(case, groups, monkeypatch):
    buffers, make = [], couriers.pinned_buffer

    def noted(size):
        buffers.append(make(size))
        return buffers[-1]

    monkeypatch.setattr(couriers, "pinned_buffer", noted)
    pipeline = at_home(case)
    pipeline.enable_group_offload(DEVICE, use_stream=True, **groups)
    for _ in range(2):  # in the second run the order of groups is known
        assert is_expected(case, video(case, pipeline))
    assert buffers and all(buffer.is_pinned() for buffer in buffers)
    assert waits_on_the_cpu(pipeline)


@over(FAMILIES)
@pytest.mark.parametrize("streamed", [False, pytest.param(True, marks=needs_streams)])
def test_a_run_that_nobody_reads_on_leaves_nothing_behind(case, streamed):
    pipeline = at_home(case)
    pipeline.enable_group_offload(DEVICE, use_stream=streamed)
    events = pipeline.stream(generator=seeded(), output_type="pt", **case.call)
    assert any(event.stage == "denoise" for event in events)
    events.close()
    assert waits_on_the_cpu(pipeline)
    assert is_expected(case, video(case, pipeline))


@over([case for case in FAMILIES if case.takes("callback_on_step_end")])
def test_an_error_in_the_middle_leaves_nothing_behind(case):
    pipeline = at_home(case)
    pipeline.enable_model_cpu_offload(device=DEVICE)

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(case, pipeline, callback_on_step_end=fail)
    assert waits_on_the_cpu(pipeline)
    assert is_expected(case, video(case, pipeline))


@over(FAMILIES)
def test_hooks_can_be_removed_and_the_pipeline_moved(case):
    pipeline = at_home(case)
    pipeline.enable_sequential_cpu_offload(device=DEVICE)
    *_, last = pipeline.stream(generator=seeded(), output_type="pt", **case.call)
    pipeline.remove_all_hooks()
    assert is_expected(case, frames_of(last.output))
    assert is_expected(case, video(case, pipeline.to(DEVICE)))


BLOCK_BYTES = 4 * 4096**2


class Deep(nn.Module):
    """Blocks of 64 MB each, so large that the allocator's rounding is small beside them."""

    def __init__(self, num_blocks=8):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4096, 4096, bias=False) for _ in range(num_blocks))

    def forward(self, hidden_states):
        for block in self.blocks:
            hidden_states = torch.tanh(block(hidden_states))
        return hidden_states


@needs_real
@pytest.mark.parametrize(
    ("grain", "streamed", "most_blocks"),
    [
        (Grain("components"), False, 8),
        (Grain("blocks"), False, 1),
        pytest.param(Grain("blocks"), True, 2, marks=needs_streams),
        pytest.param(Grain("blocks", 2), True, 4, marks=needs_streams),
        (Grain("leaves"), False, 1),
    ],
)
@torch.inference_mode()
def test_no_more_weights_are_there_than_the_grain_says(grain, streamed, most_blocks):
    network = Deep()
    given = torch.randn(256, 4096, device=DEVICE)
    expected = network.to(DEVICE)(given).cpu()
    network.to("cpu")
    place({"deep": network}, DEVICE, grain, streamed=streamed)
    for _ in range(3):
        devices.empty_cache(DEVICE)
        devices.reset_peak_memory(DEVICE)
        before = devices.peak_memory(DEVICE)
        made = network(given)
        release(network)
        devices.synchronize(DEVICE)
        assert torch.equal(made.cpu(), expected)
        assert devices.peak_memory(DEVICE) - before < (most_blocks + 0.5) * BLOCK_BYTES
    remove(network)
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())
