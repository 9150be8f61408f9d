"""The skeleton of every U-Net (arXiv:1505.04597, arXiv:2112.10752): down, middle and up, with skips between.

A block works at one resolution and is a table: each row is one layer, each column one kind of part, such as residual
blocks, attention, or what a video model puts between them. Its rows are run one after the other, each from left to
right. A family says which columns there are, and how a part is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from filmstrip.nn.recomputing import recomputed


@dataclass(frozen=True)
class Conditions:
    """What the parts of a U-Net are given beside the stream that they transform."""

    temb: Tensor  # (batch, temb_channels)
    encoder_hidden_states: Tensor | None = None  # (batch, prompt_tokens, dim); of videos one row for all their frames
    attention_mask: Tensor | None = None  # added to the scores of self-attention, (batch, 1, tokens)
    encoder_attention_mask: Tensor | None = None  # added to those of cross-attention, (batch, 1, prompt_tokens)
    cross_attention_kwargs: Mapping[str, Any] = field(default_factory=dict)
    num_frames: int = 1
    """Of the frames that are folded into the batch."""


Call = Callable[[Any, Tensor, Conditions], Tensor]
"""How a part of one column is called."""
Columns = Mapping[str, Sequence[nn.Module]]
"""The parts of a block, by the names of its columns in checkpoints."""
Skip = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From a block's index, the stream and a skip, what is put together."""


class Widths(NamedTuple):
    """Channels of one block."""

    level: int
    in_channels: int
    out_channels: int
    skips: tuple[int, ...]
    """Channels of the skip that joins before each row; none on the way down."""
    is_last: bool

    def row_inputs(self, num_rows: int) -> list[int]:
        """Channels that go into each row's first part."""
        widths = [self.in_channels, *[self.out_channels] * (num_rows - 1)]
        return [width + skip for width, skip in zip(widths, self.skips or (0,) * num_rows, strict=True)]


def down_widths(block_out_channels: Sequence[int]) -> Iterator[Widths]:
    """The blocks on the way down."""
    before = (block_out_channels[0], *block_out_channels)
    last = len(block_out_channels) - 1
    for level, out_channels in enumerate(block_out_channels):
        yield Widths(level, before[level], out_channels, (), level == last)


def up_widths(block_out_channels: Sequence[int], layers_per_block: Sequence[int]) -> Iterator[Widths]:
    """The blocks on the way up, lowest resolution first; each has one row more than its counterpart.

    Args:
        layers_per_block: of the counterparts, in the order of the way up.
    """
    widths = list(reversed(block_out_channels))
    for level, out_channels in enumerate(widths):
        below = widths[min(level + 1, len(widths) - 1)]
        skips = (*[out_channels] * layers_per_block[level], below)
        yield Widths(level, widths[max(level - 1, 0)], out_channels, skips, level == len(widths) - 1)


def per_level(name: str, value: Any, num_levels: int) -> list[Any]:
    """A setting that has one value, or one for each resolution, as one for each."""
    if not isinstance(value, (list, tuple)):
        return [value] * num_levels
    if len(value) != num_levels:
        raise ValueError(f"{name} has {len(value)} values for {num_levels} of block_out_channels; give one for each.")
    return list(value)


def check_blocks(name: str, types: Sequence[str], known: Sequence[str], num_levels: int) -> None:
    """See that there is one block for each resolution, of the kinds that this network has."""
    if len(types) != num_levels or not set(types) <= set(known):
        kinds = " or ".join(known)
        raise ValueError(f"{name} must be {kinds}, {num_levels} of them in all, got {list(types)}.")


class _Block(nn.Module):
    """A table of parts."""

    def __init__(self, columns: Columns, calls: Mapping[str, Call]) -> None:
        super().__init__()
        self.calls = {name: calls[name] for name in columns}
        self.gradient_checkpointing = False
        for name, parts in columns.items():
            setattr(self, name, nn.ModuleList(parts))

    @property
    def num_rows(self) -> int:
        """Layers of the block."""
        return len(getattr(self, next(iter(self.calls))))

    def run_row(self, row: int, hidden_states: Tensor, given: Conditions, names: Sequence[str] | None = None) -> Tensor:
        """The stream after one layer, or after some of its columns."""
        arguments = (tuple(self.calls) if names is None else names, row, hidden_states, given)
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return recomputed(self._run, *arguments)
        return self._run(*arguments)

    def _run(self, names: Sequence[str], row: int, hidden_states: Tensor, given: Conditions) -> Tensor:
        for name in names:
            hidden_states = self.calls[name](getattr(self, name)[row], hidden_states, given)
        return hidden_states


class DownBlock(_Block):
    """Layers at one resolution, each of which leaves a skip; then half the resolution."""

    def __init__(self, columns: Columns, calls: Mapping[str, Call], downsampler: nn.Module | None) -> None:
        super().__init__(columns, calls)
        self.downsamplers = None if downsampler is None else nn.ModuleList([downsampler])

    def forward(self, hidden_states: Tensor, given: Conditions) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for row in range(self.num_rows):
            hidden_states = self.run_row(row, hidden_states, given)
            skips.append(hidden_states)
        if self.downsamplers is not None:
            hidden_states = self.downsamplers[0](hidden_states)
            skips.append(hidden_states)
        return hidden_states, skips


class MidBlock(_Block):
    """Layers at the lowest resolution.

    Args:
        ends: the columns that begin and end it, one longer than the others, which run between their rows.
    """

    def __init__(self, columns: Columns, calls: Mapping[str, Call], ends: Sequence[str]) -> None:
        super().__init__(columns, calls)
        self.ends = tuple(ends)
        self.between = tuple(name for name in columns if name not in ends)

    def forward(self, hidden_states: Tensor, given: Conditions) -> Tensor:
        hidden_states = self.run_row(0, hidden_states, given, self.ends)
        for row in range(len(getattr(self, self.ends[0])) - 1):
            hidden_states = self.run_row(row, hidden_states, given, self.between)
            hidden_states = self.run_row(row + 1, hidden_states, given, self.ends)
        return hidden_states


class UpBlock(_Block):
    """Layers at one resolution, each joined by a skip; then twice the resolution."""

    def __init__(self, columns: Columns, calls: Mapping[str, Call], upsampler: nn.Module | None) -> None:
        super().__init__(columns, calls)
        self.upsamplers = None if upsampler is None else nn.ModuleList([upsampler])

    def forward(
        self,
        hidden_states: Tensor,
        skips: list[Tensor],  # those of the rows are taken off its end
        given: Conditions,
        join: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        for row in range(self.num_rows):
            pair = hidden_states, skips.pop()
            if join is not None:
                pair = join(*pair)
            hidden_states = self.run_row(row, torch.cat(pair, dim=1), given)
        if self.upsamplers is not None:
            # Odd sizes are halved rounding up, so the next skip says how large the picture was.
            hidden_states = self.upsamplers[0](hidden_states, skips[-1].shape[-2:])
        return hidden_states


def run_all(
    network: Any,
    hidden_states: Tensor,
    given: Conditions,
    down_residuals: Sequence[Tensor] | None = None,
    mid_residual: Tensor | None = None,
    skip: Skip | None = None,
) -> Tensor:
    """The stream after all blocks of a U-Net, which are its `down_blocks`, `mid_block` and `up_blocks`.

    Args:
        down_residuals, mid_residual: added to the skips and to the middle, as a ControlNet gives them.
    """
    hidden_states, skips = run_down(network.down_blocks, hidden_states, given)
    if down_residuals is not None:
        skips = [one + more.to(one.dtype) for one, more in zip(skips, down_residuals, strict=True)]
    hidden_states = network.mid_block(hidden_states, given)
    if mid_residual is not None:
        hidden_states = hidden_states + mid_residual.to(hidden_states.dtype)
    return run_up(network.up_blocks, hidden_states, skips, given, skip)


def run_down(blocks: Sequence[nn.Module], hidden_states: Tensor, given: Conditions) -> tuple[Tensor, list[Tensor]]:
    """The stream after all blocks on the way down, and the skips that they leave, its beginning included."""
    skips = [hidden_states]
    for block in blocks:
        hidden_states, more = block(hidden_states, given)
        skips += more
    return hidden_states, skips


def run_up(
    blocks: Sequence[nn.Module], hidden_states: Tensor, skips: list[Tensor], given: Conditions, skip: Skip | None = None
) -> Tensor:
    """The stream after all blocks on the way up, joined by the skips, which are used up."""
    for index, block in enumerate(blocks):
        join = None if skip is None else lambda stream, kept, index=index: skip(index, stream, kept)
        hidden_states = block(hidden_states, skips, given, join)
    return hidden_states
