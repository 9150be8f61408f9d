"""Layers that somebody watches or replaces are called, whatever would be faster."""

import torch
from torch import nn

from filmstrip.kernels.plain import is_plain
from filmstrip.nn.causal_conv import CausalConv3d
from filmstrip.nn.resnet import ResnetBlock2D


class Doubled(nn.Conv3d):
    def forward(self, hidden_states):
        return 2 * super().forward(hidden_states)


@torch.no_grad()
def test_a_convolution_that_is_hooked_is_called():
    conv, seen = CausalConv3d(4, 4), []
    video = torch.randn(1, 4, 3, 6, 6)
    plain = conv(video)
    conv.conv.register_forward_hook(lambda *_: seen.append(1))
    torch.testing.assert_close(conv(video), plain)
    assert seen


@torch.no_grad()
def test_a_convolution_that_is_replaced_is_called():
    conv, doubled = CausalConv3d(4, 4), Doubled(4, 4, 3, padding=(0, 1, 1))
    doubled.load_state_dict(conv.conv.state_dict())
    video = torch.randn(1, 4, 3, 6, 6)
    plain = conv(video)
    assert is_plain(conv.conv, nn.Conv3d) and not is_plain(doubled, nn.Conv3d)
    conv.conv = doubled
    torch.testing.assert_close(conv(video), 2 * plain)


@torch.no_grad()
def test_what_a_hook_has_seen_is_not_overwritten():
    block, seen = ResnetBlock2D(4, 4, temb_channels=6, groups=2), []
    pictures, temb = torch.randn(2, 4, 5, 6), torch.randn(2, 6)
    plain = block(pictures, temb)
    for conv in (block.conv1, block.conv2):
        conv.register_forward_hook(lambda _, __, result: seen.append((result, result.clone())))
    torch.testing.assert_close(block(pictures, temb), plain)
    assert len(seen) == 2
    assert all(torch.equal(result, copy) for result, copy in seen)
