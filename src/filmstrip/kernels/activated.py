"""What a convolution reads of a normalised and activated video, or of pictures, in strips of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from filmstrip.kernels.group_norm import Affine, write_activated
from filmstrip.kernels.layout import empty_channels_last


def activated_strips(
    hidden_states: Tensor,  # (batch, channels, frames, height, width); pictures are videos of one frame
    strips: Iterable[slice],  # of rows; none is larger than the first
    affine: Affine,
    activation: Callable[[Tensor], Tensor],
    reach: int = 0,
    before: Tensor | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield each strip's rows and what a kernel of three rows reads there: the activated copy never exists whole.

    A strip is (batch, channels, reach + frames, rows + 2, width), and is overwritten by the next one. Beyond the edges
    of the video it has zeros.

    Args:
        reach: frames before the video that are read, too.
        before: these frames, activated, of all rows; without them the video's first frame is repeated.
    """
    _, channels, frames, height, width = hidden_states.shape
    room = None
    for rows in strips:
        size = rows.stop - rows.start + 2
        if room is None:  # fresh memory for each strip would cost more than what is put there
            room = empty_channels_last(hidden_states, channels, (reach + frames, size, width))
        strip = room[:, :, :, :size]
        if rows.start == 0:
            strip[:, :, :, 0] = 0
        if rows.stop == height:
            strip[:, :, :, -1] = 0
        seen = slice(max(rows.start - 1, 0), min(rows.stop + 1, height))
        inside = strip[:, :, :, seen.start - rows.start + 1 : seen.stop - rows.start + 1]
        write_activated(inside[:, :, reach:], hidden_states[:, :, :, seen], affine.rows(seen, height), activation)
        inside[:, :, :reach] = inside[:, :, reach : reach + 1] if before is None else before[:, :, :, seen]
        yield rows, strip
