"""The helpers that users import from here: `from filmstrip.utils import export_to_video, load_image`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from filmstrip.media import export_to_gif, export_to_video, load_image, load_video

if TYPE_CHECKING:
    import torch

    from filmstrip.randomness import Generators

__all__ = ["export_to_gif", "export_to_video", "load_image", "load_video", "randn_tensor"]


def randn_tensor(
    shape: Sequence[int],
    generator: Generators = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Unit Gaussian noise as pipelines draw it: where the generator lives, then moved to `device`.

    Args:
        generator: one for all videos, or a list with one for each entry of the first dimension.
        device, dtype: the CPU and torch's default if left out.
    """
    import torch

    from filmstrip.randomness import draw_noise

    return draw_noise(shape, generator, device or "cpu", dtype or torch.get_default_dtype())
