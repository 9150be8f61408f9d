"""Causal convolutions by torch's own padding and convolution, whole and as streams."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from filmstrip.nn.causal_conv import SPACE_PADDINGS, TIME_PADDINGS, BareCausalConv3d, CausalConv3d
from filmstrip.nn.streaming import run_stages

GEOMETRIES = {
    "usual": {},
    "time only": {"kernel_size": (3, 1, 1)},
    "space only": {"kernel_size": (1, 3, 3), "stride": (1, 2, 2)},
    "uneven": {"kernel_size": (3, 5, 3), "stride": (2, 1, 2)},
    "gaps": {"kernel_size": (3, 3, 1), "dilation": (2, 2, 1)},
    "gaps and steps": {"kernel_size": 3, "dilation": (2, 1, 3), "stride": (3, 2, 1)},
}
KINDS = {"a level of names": CausalConv3d, "bare": BareCausalConv3d}
over_geometries = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
over_kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
over_paddings = pytest.mark.parametrize(("time", "space"), product(TIME_PADDINGS, SPACE_PADDINGS))


def triple(value):
    return (value,) * 3 if isinstance(value, int) else value


def plainly(conv, video, geometry, is_causal, time, space):
    """What torch's own functions make of it."""
    kernel, stride, gaps = (
        triple(geometry.get(name, default)) for name, default in (("kernel_size", 3), ("stride", 1), ("dilation", 1))
    )
    reach, rows, columns = (gap * (size - 1) for gap, size in zip(gaps, kernel, strict=True))
    before, after = (reach, 0) if is_causal else (reach // 2, reach // 2)
    if time != "none" and reach:
        mode = "constant" if time == "zeros" else "replicate"
        video = F.pad(video, (0, 0, 0, 0, before, after), mode)
    if rows or columns:
        mode = "constant" if space == "zeros" else space
        video = F.pad(video, (columns // 2, columns // 2, rows // 2, rows // 2, 0, 0), mode)
    return F.conv3d(video, conv.layer.weight, conv.layer.bias, stride, 0, gaps)


@over_kinds
@over_paddings
@over_geometries
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("records", [True, False], ids=["gradients", "none"])
def test_every_padding_is_torchs(kind, geometry, is_causal, time, space, records):
    torch.manual_seed(0)
    conv = kind(3, 4, is_causal=is_causal, time_padding=time, space_padding=space, **geometry)
    video = torch.randn(2, 3, 9, 8, 10)
    with torch.set_grad_enabled(records):
        expected = plainly(conv, video, geometry, is_causal, time, space)
        torch.testing.assert_close(conv(video), expected, rtol=1e-4, atol=1e-5)


@over_kinds
@over_paddings
@over_geometries
@pytest.mark.parametrize("chunk", [1, 4])
@torch.no_grad()
def test_every_stream_is_the_whole(kind, geometry, time, space, chunk):
    torch.manual_seed(0)
    for is_causal in (True, False):
        conv = kind(3, 4, is_causal=is_causal, time_padding=time, space_padding=space, **geometry)
        video = torch.randn(2, 3, 11, 8, 10)
        joined = torch.cat(list(run_stages([conv], [video], chunk)), dim=2)
        torch.testing.assert_close(joined, conv(video), rtol=1e-4, atol=1e-5)
        empty = run_stages([conv], [video[:, :, :1]], 1)
        assert all(one.shape[2] > 0 for one in empty)


def test_names_are_those_of_files():
    assert set(CausalConv3d(2, 2).state_dict()) == {"conv.weight", "conv.bias"}
    assert set(BareCausalConv3d(2, 2).state_dict()) == {"weight", "bias"}
    assert isinstance(BareCausalConv3d(2, 2), nn.Conv3d)


@torch.no_grad()
def test_a_bare_convolution_that_is_watched_is_called_once():
    conv, seen = BareCausalConv3d(2, 2), []
    conv.register_forward_hook(lambda *_: seen.append(1))
    conv(torch.randn(1, 2, 3, 4, 4))
    assert seen == [1]


def test_an_unknown_padding_is_an_error():
    with pytest.raises(ValueError, match="time_padding is one of replicate, zeros, none, got 'reflect'"):
        CausalConv3d(2, 2, time_padding="reflect")
    with pytest.raises(ValueError, match="space_padding is one of"):
        BareCausalConv3d(2, 2, space_padding="none")
