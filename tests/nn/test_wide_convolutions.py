"""Convolutions with many weights, run on the CPU in parts."""

from __future__ import annotations

import torch

from filmstrip.kernels import video_convolution
from filmstrip.nn.causal_conv import CausalConv3d


@torch.no_grad()
def test_a_convolution_in_parts_gives_the_whole_in_the_same_layout(monkeypatch):
    convolution = CausalConv3d(4, 10)
    video = torch.randn(2, 4, 3, 5, 6)
    whole = convolution(video)
    calls = []
    plain = video_convolution.convolve
    monkeypatch.setattr(video_convolution, "convolve", lambda *given: calls.append(1) or plain(*given))
    monkeypatch.setattr(video_convolution, "WEIGHTS_AT_ONCE", 3 * 4 * 27 * 4)
    parts = convolution(video)
    torch.testing.assert_close(parts, whole)
    assert len(calls) == 4
    assert parts.stride() == whole.stride()
