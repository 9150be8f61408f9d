"""Convolutions over neighbouring frames with fewer products: Winograd's minimal filtering (arXiv:1509.09308) in time.

m outputs of a filter of three taps need m + 2 products instead of 3 m. Here a product is a convolution of pictures with
one of m + 2 sums of the kernel's three slices, and one of m + 2 sums of frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from filmstrip.kernels.convolution import convolve
from filmstrip.kernels.plain import is_free
from filmstrip.kernels.valueless import in_turn, is_on_cpu

TAPS = 3
# Where the polynomials behind m outputs are evaluated, infinity besides. Points near one keep the rounding small: four
# outputs in float32 are off by twice what the plain sum is.
POINTS: dict[int, tuple[float, ...]] = {2: (0, 1, -1), 3: (0, 1, -1, 0.5), 4: (0, 0.75, -0.75, 1.5, -1.5)}
# What it takes to be faster: channels on both sides of a layer, and pixels of a frame.
MIN_CHANNELS, MIN_POSITIONS = 32, 1024
# Channels from which on layers in bfloat16 get four outputs at a time, not two.
WIDE_IN_BFLOAT16 = 192

Matrix = list[list[float]]


def _transforms(points: Sequence[float]) -> tuple[Matrix, Matrix, Matrix]:
    """Coefficients of the sums of frames, of the kernel's slices and of the products: Toom and Cook's matrices."""
    num_outputs = len(points) - TAPS + 2
    frames, slices, products = [], [], []
    for i, point in enumerate(points):
        others = [*points[:i], *points[i + 1 :]]
        norm = math.prod(point - other for other in others)
        frames.append([*_coefficients(others), 0.0])
        slices.append([point**k / norm for k in range(TAPS)])
        products.append([point**k for k in range(num_outputs)])
    frames.append(_coefficients(points))
    slices.append([0.0] * (TAPS - 1) + [1.0])
    products.append([0.0] * (num_outputs - 1) + [1.0])
    return frames, slices, products


def _coefficients(roots: Sequence[float]) -> list[float]:
    """The polynomial with these roots, lowest power first."""
    polynomial = [1.0]
    for root in roots:
        polynomial = [
            higher - root * lower for lower, higher in zip([*polynomial, 0.0], [0.0, *polynomial], strict=True)
        ]
    return polynomial


TRANSFORMS = {num_outputs: _transforms(points) for num_outputs, points in POINTS.items()}


def saves_time(hidden_states: Tensor, conv: nn.Conv3d, num_outputs: int) -> bool:
    """Whether fewer products make up for the sums around them: on a CPU, for wide layers and pictures not tiny.

    Args:
        num_outputs: frames that come out.
    """
    return (
        is_on_cpu(hidden_states)
        and hidden_states.dtype in (torch.float32, torch.bfloat16)
        and conv.kernel_size == (TAPS,) * 3
        and conv.stride == conv.dilation == (1, 1, 1)
        and conv.padding == (0, 1, 1)
        and conv.bias is not None
        and min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
        and num_outputs > 1
        and hidden_states.shape[3] * hidden_states.shape[4] >= MIN_POSITIONS
        and is_free()
    )


class TimeConvolution:
    """A convolution of strips of rows, its kernels summed once for all of them.

    Args:
        conv: one of which `saves_time` says so.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        assert conv.bias is not None
        self.weight, self.bias = conv.weight, conv.bias
        # In bfloat16 the sums are rounded too, more for more outputs. Wide layers gain most and suffer least.
        is_exact = conv.weight.dtype == torch.float32
        self.max_outputs = 4 if is_exact or conv.in_channels >= WIDE_IN_BFLOAT16 else 2
        self._slices = conv.weight.float().contiguous(memory_format=torch.channels_last_3d).unbind(2)
        self._kernels: dict[int, list[Tensor]] = {}
        self._rooms: dict[str, Tensor] = {}

    def __call__(
        self,
        strip: Tensor,  # (batch, channels, frames + 2, rows + 2, width), channels-last
        into: Tensor,  # (batch, out_channels, frames, rows, width), of a channels-last video
        is_added: bool,
    ) -> None:
        """Write the result, or add it to what is there. Columns are padded with zeros, frames and rows are not."""
        num_frames = into.shape[2]
        for start in in_turn(range(0, num_frames, self.max_outputs), strip):
            stop = min(start + self.max_outputs, num_frames)
            frames, outputs = strip[:, :, start : stop + TAPS - 1], into[:, :, start:stop]
            if stop - start > 1:
                for video, result in zip(frames.movedim(1, -1), outputs.movedim(1, -1), strict=True):
                    self._filter(video, result, is_added)
            else:
                write(convolve(frames, self.weight, self.bias, (0, 0, 1)), outputs, is_added)

    def _filter(self, video: Tensor, result: Tensor, is_added: bool) -> None:
        """The same for up to four frames of one video; the channels come last."""
        num_outputs, rows, width, out_channels = result.shape
        frame_sums, _, product_sums = TRANSFORMS[num_outputs]
        num_products = len(frame_sums)
        sums = self._room("sums", video, (num_products, *video.shape[1:]))
        torch.mm(video.new_tensor(frame_sums), video.reshape(video.shape[0], -1), out=sums.view(num_products, -1))
        products = self._room("products", video, (num_products + 1, rows, width, out_channels))
        for product, summed, kernel in zip(products, sums, self._summed_kernels(num_outputs), strict=False):
            product.copy_(convolve(summed.movedim(-1, 0)[None], kernel, None, (0, 1))[0].movedim(0, -1))
        # The bias is one more product, which every output has once.
        products[-1] = self.bias
        to_outputs = video.new_tensor([*product_sums, [1.0] * num_outputs]).T  # (outputs, products + 1)
        if is_added:
            result.view(num_outputs, -1).addmm_(to_outputs, products.flatten(1))
        else:
            torch.mm(to_outputs, products.flatten(1), out=result.view(num_outputs, -1))

    def _room(self, name: str, like: Tensor, size: tuple[int, ...]) -> Tensor:
        """Memory that the strip before used: to touch new memory would take longer than to fill it."""
        if name not in self._rooms or self._rooms[name].shape != size:
            self._rooms[name] = like.new_empty(size)
        return self._rooms[name]

    def _summed_kernels(self, num_outputs: int) -> list[Tensor]:
        if num_outputs not in self._kernels:
            _, slice_sums, _ = TRANSFORMS[num_outputs]
            self._kernels[num_outputs] = [
                _weighted(self._slices, factors).to(self.weight.dtype) for factors in slice_sums
            ]
        return self._kernels[num_outputs]


def write(convolved: Tensor, into: Tensor, is_added: bool) -> None:
    """Put a result into its place, or add it to what is there."""
    if is_added:
        into += convolved
    else:
        into.copy_(convolved)


def _weighted(tensors: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    """The sum of tensors, each times its factor."""
    (first, factor), *rest = [term for term in zip(tensors, factors, strict=True) if term[1]]
    total = first * factor
    for tensor, factor in rest:
        total.add_(tensor, alpha=factor)
    return total
