"""Attention with its projections, in layers whose computation users replace: the U-Nets' kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from filmstrip.kernels.attention import attention
from filmstrip.kernels.layers import Linear

# Guidance by two conditions asks for three predictions in turn.
MOST_REMEMBERED = 3

Given = ParamSpec("Given")
Made = TypeVar("Made")
Processor = Callable[..., Tensor]
"""Called as `processor(attn, hidden_states, encoder_hidden_states=..., attention_mask=..., **kwargs)`."""


class AttnProcessor:
    """What an attention layer does unless it is told otherwise: plain attention."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,  # (batch, tokens, dim)
        encoder_hidden_states: Tensor | None = None,  # (batch, key_tokens, cross_attention_dim)
        attention_mask: Tensor | None = None,  # added to the scores; broadcasts to (batch, heads, tokens, key_tokens)
    ) -> Tensor:  # (batch, tokens, dim)
        key, value = attn.keys_and_values(hidden_states if encoder_hidden_states is None else encoder_hidden_states)
        if value.shape[2] == 1 and not torch.is_grad_enabled():
            # All attend to that one token, whatever their queries are; only these would miss their gradients of zero.
            return attn.join_heads(value).expand(-1, hidden_states.shape[1], -1)
        return attn.join_heads(self.attend(attn.queries(hidden_states), key, value, attention_mask))

    @staticmethod
    def attend(query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Attention of heads, (batch, heads, tokens, dim_head)."""
        if attention_mask is not None and attention_mask.dim() == 3:  # (batch, 1, key_tokens)
            attention_mask = attention_mask[:, None]
        return attention(query, key, value, attention_mask)


class Attention(nn.Module):
    """Multi-head attention of tokens to themselves or to other tokens, computed by a `processor` that can be replaced.

    Args:
        query_dim: width of the tokens that attend.
        cross_attention_dim: width of those that they attend to; None if they are the same.
        heads, dim_head: number of heads, and width of each.
        bias: whether the first three projections have one.
    """

    def __init__(
        self, query_dim: int, cross_attention_dim: int | None, heads: int, dim_head: int, bias: bool = False
    ) -> None:
        super().__init__()
        inner_dim = heads * dim_head
        key_dim = query_dim if cross_attention_dim is None else cross_attention_dim
        self.heads, self.scale = heads, dim_head**-0.5
        self.to_q = Linear(query_dim, inner_dim, bias)
        self.to_k = Linear(key_dim, inner_dim, bias)
        self.to_v = Linear(key_dim, inner_dim, bias)
        # The second entry holds the place of the dropout that published names count.
        self.to_out = nn.ModuleList([Linear(inner_dim, query_dim), nn.Identity()])
        self.processor: Processor = AttnProcessor()
        self.reads_prompt = cross_attention_dim is not None

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        processor: Processor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """What a processor makes of the tokens: the layer's own, or one that is given for this call."""
        compute = self.processor if processor is None else processor
        return compute(self, hidden_states, encoder_hidden_states, attention_mask, **kwargs)

    def keys_and_values(self, encoder_hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of tokens, each (batch, heads, key_tokens, dim_head)."""
        # A graph would be made anew for all that is remembered; what gradients are asked for is computed each time.
        may_remember = self.reads_prompt and not torch.compiler.is_compiling() and not torch.is_grad_enabled()
        memory = _memory.get() if may_remember else None
        if memory is None:
            return self._projected(encoder_hidden_states)
        return memory.pair(self, encoder_hidden_states, self._projected)

    def _projected(self, encoder_hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self.to_k(encoder_hidden_states), self.to_v(encoder_hidden_states)
        return self.split_heads(key), self.split_heads(value)

    def queries(self, hidden_states: Tensor) -> Tensor:
        """Queries of tokens, (batch, heads, tokens, dim_head)."""
        return self.split_heads(self.to_q(hidden_states))

    def split_heads(self, projected: Tensor) -> Tensor:
        """(batch, tokens, heads * dim_head) to (batch, heads, tokens, dim_head)."""
        return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def join_heads(self, attended: Tensor) -> Tensor:
        """(batch, heads, tokens, dim_head) through the last projection, to (batch, tokens, dim)."""
        joined: Tensor = self.to_out[0](attended.transpose(1, 2).flatten(2))
        return joined

    def set_processor(self, processor: Processor) -> None:
        """Have attention computed by another processor."""
        self.processor = processor

    # ---- what processors written for Diffusers call ----------------------------------------------------------------

    def head_to_batch_dim(self, projected: Tensor) -> Tensor:
        """(batch, tokens, heads * dim_head) to (batch * heads, tokens, dim_head)."""
        return self.split_heads(projected).flatten(0, 1)

    def batch_to_head_dim(self, attended: Tensor) -> Tensor:
        """(batch * heads, tokens, dim_head) to (batch, tokens, heads * dim_head)."""
        return attended.unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2)

    def get_attention_scores(self, query: Tensor, key: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The share of each key in each token, (batch * heads, tokens, key_tokens)."""
        scores = query @ key.transpose(-1, -2) * self.scale
        return (scores if attention_mask is None else scores + attention_mask).softmax(dim=-1)

    def prepare_attention_mask(
        self, attention_mask: Tensor | None, target_length: int, batch_size: int
    ) -> Tensor | None:
        """A mask, (batch, 1, key_tokens), for every head: (batch * heads, 1, key_tokens)."""
        return None if attention_mask is None else attention_mask.repeat_interleave(self.heads, dim=0)


class PromptMemory:
    """The keys and values that attention layers made of prompts, each layer's last few."""

    def __init__(self) -> None:
        self._pairs: dict[Attention, list[tuple[Tensor, tuple[Tensor, Tensor]]]] = {}

    def pair(
        self, layer: Attention, prompt: Tensor, make: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """What a layer makes of a prompt; made once, as long as the prompt is the same tensor."""
        known = self._pairs.get(layer, [])
        for tokens, pair in known:
            if tokens is prompt:
                return pair
        pair = make(prompt)
        self._pairs[layer] = [*known, (prompt, pair)][-MOST_REMEMBERED:]
        return pair


_memory: ContextVar[PromptMemory | None] = ContextVar("_memory", default=None)


def remembering_prompts(predict: Callable[Given, Made]) -> Callable[Given, Made]:
    """A function that calls networks as this one does, but has them compute the keys and values of a prompt once.

    What is remembered belongs to the function: others that use the same networks at the same time see nothing of it.
    """
    memory = PromptMemory()

    @wraps(predict)
    def remembering(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        before = _memory.set(memory)
        try:
            return predict(*args, **kwargs)
        finally:
            _memory.reset(before)

    return remembering


class AttentionModel:
    """Mixed into a network: its attention layers' processors by name."""

    @property
    def attn_processors(self) -> dict[str, Processor]:
        """Each attention layer's processor, under the layer's name followed by ".processor"."""
        return {f"{name}.processor": layer.processor for name, layer in self._attention_layers()}

    def set_attn_processor(self, processor: Processor | Mapping[str, Processor]) -> None:
        """Give all attention layers one processor, or each its own by the names of `attn_processors`.

        Raises:
            ValueError: a mapping that does not name every layer.
        """
        layers = dict(self._attention_layers())
        if not isinstance(processor, Mapping):
            processor = {f"{name}.processor": processor for name in layers}
        if processor.keys() != {f"{name}.processor" for name in layers}:
            raise ValueError(
                f"a mapping of {len(processor)} processors was given for {len(layers)} attention layers;"
                " give one processor for all, or name each as attn_processors does."
            )
        for name, layer in layers.items():
            layer.set_processor(processor[f"{name}.processor"])

    def set_default_attn_processor(self) -> None:
        """Have all attention layers compute plain attention again."""
        self.set_attn_processor(AttnProcessor())

    # ---- what code written for Diffusers calls, and what changes nothing here -------------------------------------

    def set_attention_slice(self, slice_size: int | str | None = "auto") -> None:
        """Nothing: attention never holds its whole table of scores."""

    def enable_xformers_memory_efficient_attention(self, attention_op: Any = None) -> None:
        """Nothing, as `set_attention_slice`."""

    def disable_xformers_memory_efficient_attention(self) -> None:
        """Nothing, as `set_attention_slice`."""

    def fuse_qkv_projections(self) -> None:
        """Nothing: the numbers are the same, and one product is not faster than three."""

    def unfuse_qkv_projections(self) -> None:
        """Nothing, as `fuse_qkv_projections`."""

    def _attention_layers(self) -> list[tuple[str, Attention]]:
        assert isinstance(self, nn.Module)
        return [(name, module) for name, module in self.named_modules() if isinstance(module, Attention)]
