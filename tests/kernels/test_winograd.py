"""Convolutions over frames with fewer products give what the plain ones give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from filmstrip.kernels import video_convolution
from filmstrip.kernels.layout import channels_last
from filmstrip.kernels.video_convolution import strips, with_neighbours
from filmstrip.kernels.winograd import TRANSFORMS, TimeConvolution, saves_time
from filmstrip.nn.causal_conv import CausalConv3d, repeat_ends


def layer(in_channels=3, out_channels=4):
    torch.manual_seed(0)
    return nn.Conv3d(in_channels, out_channels, 3, padding=(0, 1, 1))


def clip(frames, channels=3, height=5, width=6, batch=2):
    generator = torch.Generator().manual_seed(frames)
    return channels_last(torch.randn(batch, channels, frames, height, width, generator=generator))


def convolved(conv, video, added_to=None):
    batch, _, frames, height, width = video.shape
    into = added_to
    if added_to is None:
        into = channels_last(video.new_empty(batch, conv.out_channels, frames - 2, height, width))
    write_rows = TimeConvolution(conv)
    for rows in strips(video, conv.out_channels):
        write_rows(channels_last(with_neighbours(video, rows)), into[:, :, :, rows], added_to is not None)
    return into


@pytest.mark.parametrize("num_outputs", TRANSFORMS)
def test_the_matrices_filter_whole_numbers_exactly(num_outputs):
    from_frames, from_slices, to_outputs = (
        torch.tensor(matrix, dtype=torch.float64) for matrix in TRANSFORMS[num_outputs]
    )
    frames = torch.arange(1.0, num_outputs + 3).double() ** 2
    taps = torch.tensor([2.0, -3.0, 5.0]).double()
    expected = [float(frames[i : i + 3] @ taps) for i in range(num_outputs)]
    outputs = to_outputs.T @ ((from_slices @ taps) * (from_frames @ frames))
    assert outputs.tolist() == pytest.approx(expected, abs=1e-9)
    assert len(from_frames) == num_outputs + 2 < 3 * num_outputs


@pytest.mark.parametrize("frames", range(3, 14))
@pytest.mark.parametrize("strip", [1, 2**19], ids=["strips", "whole"])
@torch.no_grad()
def test_any_number_of_frames_agrees(frames, strip, monkeypatch):
    monkeypatch.setattr(video_convolution, "STRIP_CPU", strip)
    conv, video = layer(), clip(frames, height=19)
    plain = conv(video)
    torch.testing.assert_close(convolved(conv, video), plain, rtol=1e-4, atol=1e-5)
    assert convolved(conv, video).stride() == plain.stride()


@torch.no_grad()
def test_the_result_can_be_added_to_another_video():
    conv, video, other = layer(), clip(7), clip(5, channels=4)
    expected = other + conv(video)
    assert convolved(conv, video, other).data_ptr() == other.data_ptr()
    torch.testing.assert_close(other, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_float32_is_nearly_as_exact_as_the_plain_sum():
    conv, video = layer(64, 64), F.silu(clip(6, 64, 12, 13))
    truth = F.conv3d(video.double(), conv.weight.double(), conv.bias.double(), padding=(0, 1, 1))
    errors = [
        float((result.double() - truth).norm() / truth.norm()) for result in (convolved(conv, video), conv(video))
    ]
    assert errors[0] < 3 * errors[1] and errors[0] < 2e-6


@torch.no_grad()
def test_bfloat16_is_rounded_a_few_times():
    conv, video = layer(64, 64).bfloat16(), F.silu(clip(6, 64, 12, 13)).bfloat16()
    truth = F.conv3d(video.float(), conv.weight.float(), conv.bias.float(), padding=(0, 1, 1))
    assert (convolved(conv, video) - truth).norm() < 8e-3 * truth.norm()


@torch.no_grad()
def test_narrow_layers_in_bfloat16_are_rounded_less():
    video = F.silu(clip(6, 64, 12, 13)).bfloat16()
    conv = layer(64, 64).bfloat16()
    truth = F.conv3d(video.float(), conv.weight.float(), conv.bias.float(), padding=(0, 1, 1))
    narrow = (convolved(conv, video) - truth).norm()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("filmstrip.kernels.winograd.WIDE_IN_BFLOAT16", 64)
        assert (convolved(conv, video) - truth).norm() > 1.2 * narrow
    wide = CausalConv3d(32, 32).bfloat16()
    large = clip(6, 32, 32, 32).bfloat16()
    assert torch.equal(wide(large), wide.conv(repeat_ends(large, 2, 0)))


@pytest.mark.parametrize("is_causal", [True, False])
@torch.no_grad()
def test_wide_layers_are_convolved_so_and_agree(is_causal, monkeypatch):
    torch.manual_seed(0)
    wide, video = CausalConv3d(32, 40, is_causal=is_causal), clip(6, 32, 32, 33)
    calls = []
    monkeypatch.setattr(video_convolution, "TimeConvolution", lambda conv: calls.append(1) or TimeConvolution(conv))
    fast = wide(video)
    assert calls == [1]
    with torch.enable_grad():
        plain = wide(video).detach()
    assert calls == [1]
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_only_what_gains_is_convolved_so():
    video = clip(6, 32, 32, 32)
    assert saves_time(video, layer(32, 32), 4)
    assert not saves_time(video, layer(32, 32), 1)
    assert not saves_time(video[:, :, :, :31], layer(32, 32), 4)
    assert not saves_time(video, layer(32, 3), 4)
    assert not saves_time(video.half(), layer(32, 32), 4)
    assert not saves_time(video.double(), layer(32, 32), 4)
    assert not saves_time(video, nn.Conv3d(32, 32, 3, stride=(2, 2, 2), padding=(0, 1, 1)), 4)
    assert not saves_time(video, nn.Conv3d(32, 32, 3, padding=1), 4)
    assert not saves_time(video, nn.Conv3d(32, 32, 3, padding=(0, 1, 1), bias=False), 4)
    with torch.enable_grad():
        assert not saves_time(video, layer(32, 32), 4)
