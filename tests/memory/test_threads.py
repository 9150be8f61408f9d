"""Threads that share networks whose weights come and go."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from filmstrip.memory.casting import cast_layers
from filmstrip.memory.falling_back import in_float32
from filmstrip.memory.residency import Grain, place, release, remove
from tests.memory.other_device import OTHER, install

GRAINS = [
    pytest.param(Grain("components"), False, id="components"),
    pytest.param(Grain("leaves"), False, id="leaves"),
    pytest.param(Grain("blocks", 1), False, id="blocks"),
    pytest.param(Grain("blocks", 2), True, id="blocks on a stream"),
]
TIMES = 3


@pytest.fixture(autouse=True)
def often_interrupted(monkeypatch):
    install(monkeypatch)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Network(nn.Module):
    """Layers, and a method beside `forward` that computes with them."""

    computing_methods = ("stages",)

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)) for _ in range(4))
        self.register_buffer("shift", torch.randn(8))

    def forward(self, hidden_states):
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return hidden_states + self.shift

    def stages(self, hidden_states):
        for block in self.blocks:
            hidden_states = block(hidden_states)
            yield hidden_states


def networks():
    return {name: Network(seed) for seed, name in enumerate(("encoder", "denoiser", "decoder"))}


def run(parts, seed, device):
    """A run of all networks in turn, and some numbers read beside their calls."""
    with torch.no_grad():
        hidden_states = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed)).to(device)
        for _ in range(3):
            for network in parts.values():
                hidden_states = network(hidden_states) - network.shift
                hidden_states = torch.stack(list(network.stages(hidden_states))).sum(0)
                hidden_states = network.blocks[1][1](hidden_states)
        return hidden_states.cpu()


def in_threads(parts, device, count=3):
    barrier = threading.Barrier(count, timeout=60)

    def made(seed):
        barrier.wait()
        return [run(parts, seed, device) for _ in range(TIMES)]

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(made, range(count)))


def check(parts, device):
    expected = [run(parts, seed, device) for seed in range(3)]
    assert len({tuple(one.flatten().tolist()) for one in expected}) == 3
    for made, one in zip(in_threads(parts, device), expected, strict=True):
        assert all(torch.equal(each, one) for each in made)


@pytest.mark.parametrize(("grain", "streamed"), GRAINS)
def test_threads_that_share_offloaded_networks_get_what_they_get_in_turn(grain, streamed):
    parts = networks()
    place(parts, OTHER, grain, streamed=streamed, together=("denoiser", "decoder"))
    check(parts, OTHER)
    for network in parts.values():
        release(network)
        assert all(tensor.device.type == "cpu" for tensor in network.state_dict().values())


def test_threads_that_share_networks_in_a_narrow_type_get_what_they_get_in_turn():
    parts = networks()
    for network in parts.values():
        cast_layers(network, torch.float8_e4m3fn, torch.float32, kept=["norm"])
    check(parts, torch.device("cpu"))


@pytest.mark.parametrize(("grain", "streamed"), GRAINS[1::2])
def test_threads_may_share_networks_that_are_both(grain, streamed):
    parts = networks()
    for network in parts.values():
        cast_layers(network, torch.float8_e4m3fn, torch.float32)
    place(parts, OTHER, grain, streamed=streamed)
    check(parts, OTHER)


def test_weights_may_be_sent_home_and_copied_while_another_thread_computes():
    parts = networks()
    place(parts, OTHER, Grain("leaves"))
    expected, stop = run(parts, 0, OTHER), threading.Event()

    def disturb():
        while not stop.is_set():
            for network in parts.values():
                release(network)
                with in_float32(network) as copied:
                    assert torch.equal(copied.shift.cpu(), network.shift.cpu())

    with ThreadPoolExecutor(1) as pool:
        disturbing = pool.submit(disturb)
        try:
            for _ in range(TIMES):
                assert torch.equal(run(parts, 0, OTHER), expected)
        finally:
            stop.set()
        disturbing.result()


def test_a_network_that_is_no_longer_offloaded_is_called_as_before():
    parts = networks()
    before = {name: dict(vars(network)) for name, network in parts.items()}
    place(parts, OTHER, Grain("blocks"))
    for name, network in parts.items():
        remove(network)
        assert vars(network).keys() == before[name].keys()
