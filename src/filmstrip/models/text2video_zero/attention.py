"""Attention across frames: every frame attends to the first one (arXiv:2303.13439, section 3.2)."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor

from filmstrip.nn.attention_layers import Attention, AttnProcessor


class CrossFrameAttnProcessor(AttnProcessor):
    """Self-attention of frames in the batch to the first frame of their video; attention to a prompt stays as it is.

    Args:
        batch_size: videos whose frames are in the batch; with guidance twice as many, for the negative prompts' half.
    """

    def __init__(self, batch_size: int = 2) -> None:
        self.batch_size = batch_size

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,  # (batch_size * frames, tokens, dim)
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        if encoder_hidden_states is not None:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask)
        num_videos = min(self.batch_size, len(hidden_states))
        num_frames = len(hidden_states) // num_videos
        # Keys and values of other frames are never looked at, so they are not computed.
        first_frames = hidden_states[::num_frames]  # (batch_size, tokens, dim)
        key, value = (one.repeat_interleave(num_frames, 0) for one in attn.keys_and_values(first_frames))
        return attn.join_heads(self.attend(attn.queries(hidden_states), key, value, attention_mask))


class AcrossFrames:
    """A network whose attention layers look across frames while it is called through this, and not otherwise.

    Args:
        num_frames: of each video in a batch.
    """

    def __init__(self, network: Any, num_frames: int) -> None:
        self._network, self._num_frames = network, num_frames

    def __call__(self, sample: Tensor, *arguments: Any, **settings: Any) -> Any:
        kwargs = {
            **(settings.pop("cross_attention_kwargs", None) or {}),
            "processor": _across_frames(len(sample) // self._num_frames),
        }
        return self._network(sample, *arguments, cross_attention_kwargs=kwargs, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_network"], name)


@cache
def _across_frames(batch_size: int) -> CrossFrameAttnProcessor:
    return CrossFrameAttnProcessor(batch_size)
