"""Layers that are torch's and fast, and that take what is done to torch's."""

import copy
import pickle

import pytest
import torch
from torch import nn

from filmstrip.kernels import onednn
from filmstrip.kernels.layers import Conv2d, Conv3d, Linear
from filmstrip.kernels.plain import is_plain, kind_of, plain_kernels
from filmstrip.memory.casting import LAYERS

PAIRS = [
    (Linear, nn.Linear, (64, 48), {}, (1, 700, 64)),
    (Conv2d, nn.Conv2d, (16, 8, 3), {"padding": 1}, (1, 16, 20, 22)),
    (Conv2d, nn.Conv2d, (16, 8, 1), {}, (2, 16, 20, 22)),
    (Conv2d, nn.Conv2d, (16, 8, 3), {"padding": "same", "dilation": 2}, (1, 16, 20, 22)),
    (Conv2d, nn.Conv2d, (16, 8, 3), {"padding": 1, "padding_mode": "reflect", "groups": 4}, (1, 16, 20, 22)),
    (Conv3d, nn.Conv3d, (4, 8, 3), {"stride": (1, 2, 2), "padding": (0, 1, 1), "bias": False}, (1, 4, 5, 12, 10)),
    (Conv3d, nn.Conv3d, (4, 8, (3, 1, 1)), {"dilation": (2, 1, 1)}, (1, 4, 7, 12, 10)),
]


@pytest.mark.parametrize(("ours", "torchs", "arguments", "settings", "size"), PAIRS)
def test_a_layer_is_torchs_layer(ours, torchs, arguments, settings, size):
    layer, reference = ours(*arguments, **settings), torchs(*arguments, **settings)
    reference.load_state_dict(layer.state_dict())
    given = torch.randn(size)
    expected = reference(given)
    assert torch.equal(layer(given), expected), "with gradients"
    with torch.no_grad():
        torch.testing.assert_close(layer(given), expected, rtol=1e-4, atol=1e-5)
        with plain_kernels():
            assert torch.equal(layer(given), reference(given))
    assert kind_of(layer) is torchs and is_plain(layer, torchs) and isinstance(layer, LAYERS)
    assert repr(layer) == repr(reference)


@pytest.mark.parametrize("make", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_is_a_layer_of_the_same_kind(make):
    layer = Linear(4, 4)
    assert is_plain(make(layer), nn.Linear) and torch.equal(make(layer).weight, layer.weight)


@torch.no_grad()
def test_a_layer_that_others_made_more_of_is_not_plain():
    class Doubled(Linear):
        def forward(self, hidden_states):
            return 2 * super().forward(hidden_states)

    layer, given, seen = Linear(4, 4), torch.randn(2, 4), []
    other = Doubled(4, 4)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(given), 2 * layer(given))
    assert not is_plain(other, nn.Linear)
    layer.register_forward_hook(lambda *_: seen.append(1))
    layer(given)
    assert seen and not is_plain(layer, nn.Linear)


@torch.no_grad()
def test_a_linear_layer_is_fast_without_being_told(monkeypatch):
    calls, linear = [], onednn.linear
    monkeypatch.setattr(onednn, "linear", lambda *args: calls.append(1) or linear(*args))
    given, layer = torch.randn(700, 64), Linear(64, 64)
    layer(given)
    assert len(calls) == (torch.float32 in onednn.linear_types())
    with plain_kernels():
        layer(given)
    assert len(calls) <= 1


def test_a_layer_compiles_whole():
    layer, given = Linear(64, 64), torch.randn(700, 64)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(given), layer(given), rtol=1e-4, atol=1e-5)
