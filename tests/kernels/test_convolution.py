"""The convolution call gives what torch's own gives, whoever computes it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from filmstrip.kernels import convolution
from filmstrip.kernels.convolution import convolve
from filmstrip.kernels.layers import Conv2d

CASES = {
    "a video": ((2, 3, 4, 5, 6), (4, 3, 3, 3, 3), (0, 1, 1), (1, 1, 1)),
    "a video, halved": ((1, 3, 5, 7, 6), (4, 3, 3, 3, 3), (0, 1, 1), (2, 2, 2)),
    "a strip": ((1, 3, 4, 5, 6), (4, 3, 3, 3, 3), (0, 0, 1), (1, 1, 1)),
    "pictures": ((2, 3, 5, 6), (4, 3, 3, 3), (0, 1), (1, 1)),
    "positions": ((2, 3, 5, 6), (4, 3, 1, 1), (0, 0), None),
}


@pytest.mark.parametrize(("size", "kernel", "padding", "stride"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_onednn", [True, False])
@pytest.mark.parametrize("records", [True, False])
def test_it_is_torchs_convolution(size, kernel, padding, stride, dtype, has_onednn, records, monkeypatch):
    monkeypatch.setattr(convolution.torch.backends.mkldnn, "is_available", lambda: has_onednn)
    generator = torch.Generator().manual_seed(0)
    video, weight = (torch.randn(shape, generator=generator).to(dtype) for shape in (size, kernel))
    bias = torch.randn(4, generator=generator).to(dtype)
    plain = F.conv2d if len(padding) == 2 else F.conv3d
    with torch.set_grad_enabled(records):
        for given in (bias, None):
            expected = plain(video, weight, given, stride=stride or 1, padding=padding)
            torch.testing.assert_close(convolve(video, weight, given, padding, stride), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("batch", "size"), [(1, (1, 1)), (3, (5, 6)), (5, (7, 4))])
def test_few_pixels_and_many_weights_make_one_product(dtype, bias, stride, batch, size, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(convolution, "BLOCK_PIXELS", 60)
    layer = Conv2d(8, 12, 3, padding=1, stride=stride, bias=bias).to(dtype, memory_format=torch.channels_last)
    pictures = torch.randn(batch, 8, *size).to(dtype)
    with torch.no_grad():
        expected = nn.Conv2d.forward(layer, pictures)
        with torch.profiler.profile() as profile:
            result = layer(pictures)
        assert not any("convolution" in event.key for event in profile.key_averages())
        torch.testing.assert_close(result, expected)
        with monkeypatch.context() as many, torch.profiler.profile() as profile:
            many.setattr(convolution, "FEW_PIXELS", 0)
            torch.testing.assert_close(layer(pictures), expected)
        assert any("convolution" in event.key for event in profile.key_averages())
    assert layer(pictures).requires_grad


def test_gradients_pass_through():
    weight = torch.randn(4, 3, 3, 3, 3, requires_grad=True)
    convolve(torch.randn(1, 3, 4, 5, 6), weight, None, (0, 1, 1)).sum().backward()
    assert weight.grad.abs().sum() > 0
