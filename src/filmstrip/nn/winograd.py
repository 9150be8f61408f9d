"""Convolutions over neighbouring frames with fewer products: Winograd's minimal filtering (arXiv:1509.09308) in time.

m outputs of a filter of three taps need m + 2 products instead of 3 m. Here a product is a convolution of pictures with
one of m + 2 sums of the kernel's three slices, and one of m + 2 sums of frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = 3
# Where the polynomials behind m outputs are evaluated, infinity besides. Points near one keep the rounding small: four
# outputs in float32 are off by twice what the plain sum is.
POINTS: dict[int, tuple[float, ...]] = {2: (0, 1, -1), 3: (0, 1, -1, 0.5), 4: (0, 0.75, -0.75, 1.5, -1.5)}
# Numbers in a strip of a frame. A strip of each frame and of each output stays in the shared cache.
STRIP = 2**19
MIN_ROWS = 4
# What it takes to be faster: channels on both sides of a layer, those that come in, and pixels of a frame. In bfloat16
# the sums are rounded too. The wide layers of a decoder gain most by the sums and suffer least; with those alone a
# decoder stays as exact as one that normalises operation by operation.
MIN_CHANNELS = 32
MIN_IN_CHANNELS = {torch.float32: 32, torch.bfloat16: 192}
MIN_POSITIONS = 1024

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
MAX_OUTPUTS = max(TRANSFORMS)


def saves_time(hidden_states: Tensor, conv: nn.Conv3d) -> bool:
    """Whether fewer products make up for the sums around them: on a CPU, for wide layers and pictures not tiny."""
    return (
        hidden_states.device.type == "cpu"
        and conv.in_channels >= MIN_IN_CHANNELS.get(hidden_states.dtype, math.inf)
        and conv.kernel_size == (TAPS,) * 3
        and conv.stride == (1, 1, 1)
        and conv.padding == (0, 1, 1)
        and conv.bias is not None
        and min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
        and hidden_states.shape[2] > TAPS
        and hidden_states.shape[3] * hidden_states.shape[4] >= MIN_POSITIONS
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )


def convolve_in_time(
    hidden_states: Tensor,  # (batch, channels, frames + 2, height, width), channels-last
    weight: Tensor,  # (out_channels, channels, 3, 3, 3)
    bias: Tensor,
    added_to: Tensor | None = None,  # of the result's size and layout
) -> Tensor:  # (batch, out_channels, frames, height, width), channels-last
    """A convolution without padding in time, with zeros around each frame, perhaps added to another video in place."""
    batch, _, num_frames, height, width = hidden_states.shape
    size = (batch, num_frames - TAPS + 1, height, width, weight.shape[0])
    convolved = hidden_states.new_empty(size) if added_to is None else added_to.movedim(1, -1)
    slices = weight.float().contiguous(memory_format=torch.channels_last_3d).unbind(2)
    for start in range(0, size[1], MAX_OUTPUTS):
        outputs = convolved[:, start : start + MAX_OUTPUTS]
        frames = hidden_states[:, :, start : start + outputs.shape[1] + TAPS - 1]
        if outputs.shape[1] == 1:
            last = F.conv3d(frames, weight, bias, padding=(0, 1, 1)).movedim(1, -1)
            outputs.copy_(last) if added_to is None else outputs.add_(last)
            continue
        frame_sums, slice_sums, product_sums = TRANSFORMS[outputs.shape[1]]
        kernels = [_weighted(slices, factors).to(weight.dtype) for factors in slice_sums]
        from_frames = hidden_states.new_tensor(frame_sums)  # (products, frames)
        # The bias is one more product, which every output has once.
        to_outputs = hidden_states.new_tensor([*product_sums, [1.0] * outputs.shape[1]]).T  # (outputs, products + 1)
        step = max(MIN_ROWS, STRIP // (max(weight.shape[:2]) * width))
        for video, result in zip(frames.movedim(1, -1), outputs, strict=True):
            for top in range(0, height, step):
                bottom = min(top + step, height)
                products = _products(video, kernels, from_frames, top, bottom)
                products[-1] = bias
                rows = result[:, top:bottom].view(result.shape[0], -1)
                if added_to is None:
                    torch.mm(to_outputs, products.flatten(1), out=rows)
                else:
                    rows.addmm_(to_outputs, products.flatten(1))
    return convolved.movedim(-1, 1)


def _products(video: Tensor, kernels: Sequence[Tensor], from_frames: Tensor, top: int, bottom: int) -> Tensor:
    """Sums of frames, convolved: (products and an empty place, rows, width, out_channels), from rows `top` on."""
    _, height, width, channels = video.shape
    above, below = max(top - 1, 0), min(bottom + 1, height)
    sums = video.new_empty(len(kernels), bottom - top + 2, width, channels)
    for row, beyond in ((0, top == 0), (-1, bottom == height)):
        if beyond:
            sums[:, row] = 0
    rows = sums[:, above - top + 1 : below - top + 1]
    torch.mm(from_frames, video[:, above:below].flatten(1), out=rows.flatten(1))
    products = video.new_empty(len(kernels) + 1, bottom - top, width, kernels[0].shape[0])
    for product, summed, kernel in zip(products, sums, kernels, strict=False):
        product.copy_(F.conv2d(summed.movedim(-1, 0)[None], kernel, None, padding=(0, 1))[0].movedim(0, -1))
    return products


def _weighted(tensors: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    """The sum of tensors, each times its factor."""
    (first, factor), *rest = [term for term in zip(tensors, factors, strict=True) if term[1]]
    total = first * factor
    for tensor, factor in rest:
        total.add_(tensor, alpha=factor)
    return total
