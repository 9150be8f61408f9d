"""Residual blocks and samplers of pictures, shared by the image autoencoder and the U-Nets (arXiv:2112.10752).

Pictures are (batch, channels, height, width). Every layer takes any memory layout and is quickest where each position's
channels lie side by side (`torch.channels_last`), in pictures and in weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.json_files import shown
from filmstrip.kernels.activated import activated_strips
from filmstrip.kernels.convolution import convolve
from filmstrip.kernels.group_norm import Affine
from filmstrip.kernels.layers import Conv2d
from filmstrip.kernels.plain import is_free, is_plain
from filmstrip.kernels.valueless import in_turn, is_on_cpu
from filmstrip.nn.activations import Activation, activation_named

# Numbers that are convolved at a time where nothing is recorded, and the least pixels: less would not be worth the
# reordering of the weights.
STRIPE_CPU, STRIPE_ACCELERATOR = 2**20, 2**28
STRIPE_PIXELS = 2**12
# Pixels, of all pictures together, from which on adding up the weights of a kernel costs less than it saves.
PIXELS_WORTH_ADDING = 2**10


class ResnetBlock2D(nn.Module):
    """Two normalised convolutions with a shortcut; between them the timestep moves each channel.

    Args:
        temb_channels: width of the embedded timestep; None for a block that takes none.
        time_embedding_norm: "default" adds the timestep before the second norm, "scale_shift" modulates what the norm
            returns.
        output_scale_factor: what the sum of both branches is divided by.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        temb_channels: int | None = None,
        groups: int = 32,
        eps: float = 1e-6,
        act_fn: str = "silu",
        time_embedding_norm: str = "default",
        output_scale_factor: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if time_embedding_norm not in ("default", "scale_shift"):
            raise ValueError(f"time_embedding_norm is 'default' or 'scale_shift', got {shown(time_embedding_norm)}.")
        self.modulates = time_embedding_norm == "scale_shift"
        if self.modulates and temb_channels is None:
            raise ValueError("time_embedding_norm='scale_shift' needs temb_channels, the width of the timestep.")
        self.output_scale_factor = output_scale_factor
        self.activation = activation_named(act_fn)
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj: nn.Linear | None = None
        if temb_channels is not None:
            self.time_emb_proj = nn.Linear(temb_channels, 2 * out_channels if self.modulates else out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(
        self,
        inputs: Tensor,  # (batch, in_channels, height, width)
        temb: Tensor | None = None,  # (batch, temb_channels)
    ) -> Tensor:  # (batch, out_channels, height, width)
        hidden_states = convolve_activated(self.norm1, self.activation, self.conv1, inputs)
        modulation = None
        if self.time_emb_proj is not None:
            assert temb is not None
            moved = self.time_emb_proj(self.activation(temb))[:, :, None, None]
            if self.modulates:
                modulation = moved.chunk(2, dim=1)
            else:
                hidden_states = added(hidden_states, moved, self.conv1)

        def shortcut(rows: slice) -> Tensor:
            part = inputs[:, :, rows]
            return part if self.conv_shortcut is None else self.conv_shortcut(part)

        activation = self._dropping if self.training and self.dropout.p > 0 else self.activation
        summed = convolve_activated(self.norm2, activation, self.conv2, hidden_states, modulation, shortcut)
        return summed if self.output_scale_factor == 1 else summed / self.output_scale_factor

    def _dropping(self, hidden_states: Tensor) -> Tensor:
        dropped: Tensor = self.dropout(self.activation(hidden_states))
        return dropped


def convolve_activated(
    norm: nn.GroupNorm,
    activation: Activation,
    conv: nn.Conv2d,  # 3x3, as large out as in
    hidden_states: Tensor,  # (batch, channels, height, width)
    modulation: tuple[Tensor, Tensor] | None = None,  # scale and shift, each (batch, channels, 1, 1)
    shortcut: Callable[[slice], Tensor] | None = None,  # what is added to some rows of the result
) -> Tensor:  # (batch, out_channels, height, width)
    """Normalise, perhaps modulate, activate and convolve pictures.

    The activated copy of large pictures exists in stripes of rows only, unless operations are recorded or traced.
    """
    if not _may_divide(norm, conv) or _fits(hidden_states):
        normalised = norm(hidden_states)
        if modulation is not None:
            scale, shift = modulation
            normalised = torch.addcmul(shift, normalised, 1 + scale)
        result: Tensor = conv(activated(normalised, activation))
        return result if shortcut is None else added(result, shortcut(slice(None)), conv)

    hidden_states = hidden_states.contiguous(memory_format=torch.channels_last)
    affine = Affine.of_norm(norm, hidden_states.unsqueeze(2))
    if modulation is not None:
        scale, shift = (value.float().unsqueeze(2) for value in modulation)
        affine = affine.then(1 + scale, shift)
    batch, _, height, width = hidden_states.shape
    result = hidden_states.new_empty(batch, height, width, conv.out_channels).movedim(-1, 1)
    for rows, strip in activated_strips(hidden_states.unsqueeze(2), _stripes(hidden_states), affine, activation):
        part = convolve(strip.squeeze(2), conv.weight, conv.bias, (0, 1))
        result[:, :, rows] = part if shortcut is None else part.add_(shortcut(rows))
    return result


def added(hidden_states: Tensor, other: Tensor, made_by: nn.Module) -> Tensor:
    """The sum of what a layer returned and something else, in the same memory if nobody else can know of it."""
    is_ours = is_plain(made_by, nn.Conv2d, nn.Conv3d) and not torch.is_grad_enabled()
    return hidden_states.add_(other) if is_ours else hidden_states + other


def activated(hidden_states: Tensor, activation: Activation) -> Tensor:
    """The activation of a tensor that nobody else needs."""
    if activation is F.silu and not torch.is_grad_enabled():
        return F.silu(hidden_states, inplace=True)
    return activation(hidden_states)


class Downsample2D(nn.Module):
    """Half the height and width by a convolution.

    Args:
        padding: 1 on all sides; or 0, which pads the right and the lower side only.
    """

    def __init__(self, channels: int, out_channels: int | None = None, padding: int = 1) -> None:
        super().__init__()
        self.conv = Conv2d(channels, out_channels or channels, 3, stride=2, padding=padding)

    def forward(self, hidden_states: Tensor) -> Tensor:
        if self.conv.padding == (0, 0):
            hidden_states = F.pad(hidden_states, (0, 1, 0, 1))
        halved: Tensor = self.conv(hidden_states)
        return halved


class Upsample2D(nn.Module):
    """Twice the height and width, or a given size, by repetition, then a convolution."""

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        self.conv = Conv2d(channels, out_channels or channels, 3, padding=1)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, channels, height, width)
        output_size: tuple[int, int] | None = None,  # twice the input's, where the encoder's was even
    ) -> Tensor:  # (batch, out_channels, *output_size)
        batch, _, height, width = hidden_states.shape
        size = (2 * height, 2 * width) if output_size is None else output_size
        is_doubled = tuple(size) == (2 * height, 2 * width)
        if is_doubled and _may_divide(self.conv) and batch * height * width >= PIXELS_WORTH_ADDING:
            return convolve_doubled(self.conv, hidden_states)
        resized: Tensor = self.conv(F.interpolate(hidden_states, size=size))
        return resized


def convolve_doubled(conv: nn.Conv2d, hidden_states: Tensor) -> Tensor:
    """What a 3x3 convolution makes of pictures whose pixels are doubled, in 4/9 of the multiplications.

    Two of a kernel's three rows, and two of its columns, always fall on the same pixel; their weights are added up.
    """
    batch, _, height, width = hidden_states.shape
    exact = conv.weight.to(torch.promote_types(conv.weight.dtype, torch.float32))  # rounded only once it is added up
    kernels = [[kernel.to(conv.weight.dtype) for kernel in _added_pairs(upper, 3)] for upper in _added_pairs(exact, 2)]
    doubled = hidden_states.new_empty(batch, 2 * height, 2 * width, conv.out_channels).movedim(-1, 1)
    for rows in _stripes(hidden_states):
        first, last = max(0, rows.start - 1), min(rows.stop + 1, height)
        edges = (1, 1, first - rows.start + 1, rows.stop + 1 - last)
        seen = F.pad(hidden_states[:, :, first:last], edges)  # (batch, channels, rows + 2, width + 2)
        into = doubled[:, :, 2 * rows.start : 2 * rows.stop]
        for top, left in ((0, 0), (0, 1), (1, 0), (1, 1)):
            part = seen[:, :, top : seen.shape[2] - 1 + top, left : left + width + 1]
            into[:, :, top::2, left::2] = convolve(part, kernels[top][left], conv.bias, (0, 0))
    return doubled


def _stripes(hidden_states: Tensor) -> Iterator[slice]:
    """Rows that are worked on together."""
    batch, channels, height, width = hidden_states.shape
    num_rows = max(_stripe(hidden_states) // channels, STRIPE_PIXELS) // (batch * width) or 1
    for start in in_turn(range(0, height, num_rows), hidden_states):
        yield slice(start, min(start + num_rows, height))


def _may_divide(*layers: nn.Module) -> bool:
    """Whether the work of these layers may be done otherwise: nothing is recorded, nobody watches or wraps a layer."""
    return is_free() and all(is_plain(layer, nn.Conv2d, nn.GroupNorm) for layer in layers)


def _fits(hidden_states: Tensor) -> bool:
    """Whether pictures are too small to be divided."""
    batch, channels, height, width = hidden_states.shape
    return batch * height * width <= 2 * max(_stripe(hidden_states) // channels, STRIPE_PIXELS)


def _stripe(tensor: Tensor) -> int:
    return STRIPE_CPU if is_on_cpu(tensor) else STRIPE_ACCELERATOR


def _added_pairs(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The two kernels that even and odd positions of the doubled picture see, along one axis."""
    first, middle, last = weight.split(1, dim=dim)
    return torch.cat([first, middle + last], dim=dim), torch.cat([first + middle, last], dim=dim)
