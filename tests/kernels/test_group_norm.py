"""Group normalisation as one multiplication and one addition, at once and in portions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from filmstrip.kernels import group_norm
from filmstrip.kernels.group_norm import Affine, group_moments, write_activated
from filmstrip.kernels.layout import channels_last


@pytest.fixture(params=[True, False], ids=["recorded", "not recorded"])
def recorded(request):
    with torch.set_grad_enabled(request.param):
        yield request.param


@pytest.fixture(params=[1, 40, 2**18], ids=["a position", "some", "all"], autouse=True)
def portion(request, monkeypatch):
    """How many numbers are worked on at a time."""
    monkeypatch.setattr(group_norm, "PORTION_CPU", request.param)
    return request.param


def clip(batch=2, channels=6, frames=3, height=4, width=6):
    video = torch.randn(batch, channels, frames, height, width, generator=torch.Generator().manual_seed(0))
    return channels_last(video + torch.arange(channels).view(-1, 1, 1, 1))


def shaken_norm(groups=3, channels=6, eps=0.1):
    norm = nn.GroupNorm(groups, channels, eps)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, mean=1.0)
    return norm


def test_moments_by_hand(recorded):
    # Two channels of two positions: 1, 3 and 5, 7 as one group, and each as its own.
    video = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(1, 2, 1, 1, 2)
    mean, variance = group_moments(video, 1)
    assert (mean.tolist(), variance.tolist()) == ([[4]], [[5]])
    mean, variance = group_moments(video, 2)
    assert (mean.tolist(), variance.tolist()) == ([[2, 6]], [[1, 1]])


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_moments_are_those_of_each_video_and_group(groups, recorded):
    video = clip()
    grouped = video.double().reshape(2, groups, -1)
    mean, variance = group_moments(video, groups)
    torch.testing.assert_close(mean.double(), grouped.mean(2), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(variance.double(), grouped.var(2, correction=0), rtol=1e-5, atol=1e-5)


def test_a_mean_far_from_zero_does_not_hide_the_variance(recorded):
    video = clip() + 3000
    _, variance = group_moments(video, 6)
    torch.testing.assert_close(
        variance.double(), video.double().reshape(2, 6, -1).var(2, correction=0), rtol=1e-4, atol=0
    )


def test_moments_of_a_bfloat16_video_are_sums_in_float32(recorded):
    video = clip(frames=40).bfloat16()
    mean, variance = group_moments(video, 3)
    assert mean.dtype == variance.dtype == torch.float32
    torch.testing.assert_close(mean, video.float().reshape(2, 3, -1).mean(2), rtol=1e-5, atol=1e-5)


def test_a_norm_as_an_affine_map_is_the_norm(recorded):
    norm, video = shaken_norm(), clip()
    torch.testing.assert_close(Affine.of_norm(norm, video)(video), norm(video), rtol=1e-5, atol=1e-5)


def test_maps_are_chained_in_order():
    first = Affine(torch.full((1, 1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1, 1), 3.0))
    both = first.then(torch.full((1, 1, 1, 1, 1), 5.0), torch.full((1, 1, 1, 1, 1), 7.0))
    assert both(torch.ones(1, 1, 1, 1, 1)).item() == (2 * 1 + 3) * 5 + 7


def test_a_row_has_the_values_of_its_square():
    values = torch.arange(3.0).view(1, 1, 1, 3, 1)
    each, all_alike = Affine(values, values), Affine(values[:, :, :, :1], values[:, :, :, :1])
    assert each.rows(slice(1, 5), 6).shift.flatten().tolist() == [0, 1, 1, 2]
    assert all_alike.rows(slice(1, 5), 6) is all_alike


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (4, 6), (2, 1), (1, 2)])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_coarse_values_stand_for_squares_and_the_result_may_overwrite_the_video(rows, columns, frames, dtype):
    video = clip().to(dtype)
    coarse = torch.randn(2, 2, 6, frames, rows, columns)
    scale, shift = (F.interpolate(value, (frames, 4, 6), mode="nearest") for value in coarse)
    expected = F.silu(video.float() * scale + shift)
    affine = Affine(*coarse)
    torch.testing.assert_close(F.silu(affine(video)), expected)
    into = torch.empty_like(video)
    write_activated(into, video, affine, F.silu)
    torch.testing.assert_close(into, expected.to(dtype))
    write_activated(video, video, affine, F.silu)
    assert torch.equal(video, into)


@torch.no_grad()
def test_portions_are_as_small_as_asked_for(portion):
    sizes = []

    def activation(values):
        sizes.append(values.numel())
        return values

    video = clip()
    one = torch.ones(2, 6, 1, 1, 1)
    write_activated(video, video, Affine(one, one), activation)
    # Whole rows of all frames: they cannot be cut further.
    assert max(sizes) <= max(portion, video.numel() // 4)
    assert sum(sizes) == video.numel()
