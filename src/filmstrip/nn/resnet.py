"""Residual blocks and samplers of pictures, shared by the image autoencoder and the U-Nets (arXiv:2112.10752).

Pictures are (batch, channels, height, width). Every layer takes any memory layout and is quickest where each position's
channels lie side by side (`torch.channels_last`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.nn.activations import Activation, activation_named
from filmstrip.nn.group_norm import Affine, runs_in_portions, write_activated

# Numbers that are normalised and convolved at a time where nothing is recorded; smaller pictures are not divided.
STRIPE_CPU, STRIPE_ACCELERATOR = 2**21, 2**28
# Pixels, of all pictures together, from which on adding up the weights of a kernel costs less than it saves.
PIXELS_WORTH_ADDING = 2**9


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
            raise ValueError(f"time_embedding_norm is 'default' or 'scale_shift', got {time_embedding_norm!r}.")
        self.modulates = time_embedding_norm == "scale_shift"
        if self.modulates and temb_channels is None:
            raise ValueError("time_embedding_norm='scale_shift' needs temb_channels, the width of the timestep.")
        self.output_scale_factor = output_scale_factor
        self.activation = activation_named(act_fn)
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj: nn.Linear | None = None
        if temb_channels is not None:
            self.time_emb_proj = nn.Linear(temb_channels, 2 * out_channels if self.modulates else out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(
        self,
        inputs: Tensor,  # (batch, in_channels, height, width)
        temb: Tensor | None = None,  # (batch, temb_channels)
    ) -> Tensor:  # (batch, out_channels, height, width)
        hidden_states = convolve_activated(self.norm1, self.activation, self.conv1, inputs)
        scale = shift = None
        if self.time_emb_proj is not None:
            assert temb is not None
            moved = self.time_emb_proj(self.activation(temb))[:, :, None, None]
            if self.modulates:
                scale, shift = moved.chunk(2, dim=1)
            else:
                hidden_states = hidden_states + moved if torch.is_grad_enabled() else hidden_states.add_(moved)
        hidden_states = convolve_activated(
            self.norm2, self.activation, self.conv2, hidden_states, scale, shift, self.dropout
        )
        if self.conv_shortcut is not None:
            inputs = self.conv_shortcut(inputs)
        summed = hidden_states + inputs if torch.is_grad_enabled() else hidden_states.add_(inputs)
        return summed if self.output_scale_factor == 1 else summed / self.output_scale_factor


def convolve_activated(
    norm: nn.GroupNorm,
    activation: Activation,
    conv: nn.Conv2d,  # 3x3, as large out as in
    hidden_states: Tensor,  # (batch, channels, height, width)
    scale: Tensor | None = None,  # (batch, channels, 1, 1); with `shift` it modulates what the norm returns
    shift: Tensor | None = None,
    dropout: nn.Dropout | None = None,
) -> Tensor:  # (batch, out_channels, height, width)
    """Normalise, activate and convolve pictures.

    The activated copy of large pictures exists in stripes of rows only, unless operations are recorded or traced.
    """
    stripe = STRIPE_CPU if hidden_states.device.type == "cpu" else STRIPE_ACCELERATOR
    if not runs_in_portions() or hidden_states.numel() <= 2 * stripe:
        hidden_states = norm(hidden_states)
        if scale is not None and shift is not None:
            hidden_states = torch.addcmul(shift, hidden_states, 1 + scale)
        hidden_states = activated(hidden_states, activation)
        return conv(hidden_states if dropout is None else dropout(hidden_states))

    batch, channels, height, width = hidden_states.shape
    video = hidden_states.contiguous(memory_format=torch.channels_last).unsqueeze(2)
    affine = Affine.of_norm(norm, video)
    if scale is not None and shift is not None:
        affine = affine.then(1 + scale.float().unsqueeze(2), shift.float().unsqueeze(2))
    rows = max(1, stripe // (batch * channels * width))
    convolved = hidden_states.new_empty(batch, height, width, conv.out_channels).movedim(-1, 1)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        first, last = max(0, start - 1), min(stop + 1, height)  # a kernel's reach, within the picture
        part = video[:, :, :, first:last]
        copy = torch.empty_like(part)
        write_activated(copy, part, affine, activation)
        # Above and below the picture the kernel sees zeros.
        padded = F.pad(copy.squeeze(2), (0, 0, int(start == 0), int(stop == height)))
        convolved[:, :, start:stop] = F.conv2d(padded, conv.weight, conv.bias, padding=(0, 1))
    return convolved


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
        self.conv = nn.Conv2d(channels, out_channels or channels, 3, stride=2, padding=padding)

    def forward(self, hidden_states: Tensor) -> Tensor:
        if self.conv.padding == (0, 0):
            hidden_states = F.pad(hidden_states, (0, 1, 0, 1))
        return self.conv(hidden_states)


class Upsample2D(nn.Module):
    """Twice the height and width, or a given size, by repetition, then a convolution."""

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels or channels, 3, padding=1)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, channels, height, width)
        output_size: tuple[int, int] | None = None,  # twice the input's, where the encoder's was even
    ) -> Tensor:  # (batch, out_channels, *output_size)
        batch, _, height, width = hidden_states.shape
        size = (2 * height, 2 * width) if output_size is None else output_size
        is_doubled = tuple(size) == (2 * height, 2 * width)
        if is_doubled and runs_in_portions() and batch * height * width >= PIXELS_WORTH_ADDING:
            return convolve_doubled(self.conv, hidden_states)
        return self.conv(F.interpolate(hidden_states, size=size))


def convolve_doubled(conv: nn.Conv2d, hidden_states: Tensor) -> Tensor:
    """What a 3x3 convolution makes of pictures whose pixels are doubled, in 4/9 of the multiplications.

    Two of a kernel's three rows, and two of its columns, always fall on the same pixel; their weights are added up.
    """
    batch, _, height, width = hidden_states.shape
    padded = F.pad(hidden_states, (1, 1, 1, 1))
    doubled = hidden_states.new_empty(batch, 2 * height, 2 * width, conv.out_channels).movedim(-1, 1)
    for top, upper in enumerate(_added_pairs(conv.weight, 2)):
        for left, kernel in enumerate(_added_pairs(upper, 3)):
            seen = padded[:, :, top : top + height + 1, left : left + width + 1]
            doubled[:, :, top::2, left::2] = F.conv2d(seen, kernel, conv.bias)  # (batch, out_channels, height, width)
    return doubled


def _added_pairs(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The two kernels that even and odd positions of the doubled picture see, along one axis."""
    first, middle, last = weight.split(1, dim=dim)
    return torch.cat([first, middle + last], dim=dim), torch.cat([first + middle, last], dim=dim)
