"""Queries and keys on their way into attention: cut into heads, normalised within each, turned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.kernels.plain import is_free, is_plain
from filmstrip.kernels.valueless import in_turn, is_on_cpu
from filmstrip.nn.rotary import rotate_pairs

# Tokens that are taken at a time on a CPU, where the steps would otherwise each go through the memory.
BLOCK_TOKENS = 128


def normed_heads(
    hidden_states: Tensor,  # (batch, tokens, heads * head_dim)
    num_heads: int,
    norm: nn.LayerNorm,
    rotation: Tensor | None = None,  # (tokens, head_dim / 2, 2), from `rotation_table`
) -> Tensor:  # (batch, heads, tokens, head_dim)
    """Each head of each token normalised, then turned by the token's angles."""
    heads = hidden_states.unflatten(-1, (num_heads, -1))
    if _blocks_pay(hidden_states, norm):
        return _normed_in_blocks(heads, norm, rotation).transpose(1, 2)
    heads = norm(heads)
    if rotation is not None:
        heads = rotate_pairs(heads, rotation[:, None])
    return heads.transpose(1, 2)


def _blocks_pay(hidden_states: Tensor, norm: nn.Module) -> bool:
    return is_on_cpu(hidden_states) and is_plain(norm, nn.LayerNorm) and is_free()


def _normed_in_blocks(heads: Tensor, norm: nn.LayerNorm, rotation: Tensor | None) -> Tensor:
    """The same in float32 throughout; the result lies in memory head by head, as attention reads it."""
    batch, tokens, num_heads, head_dim = heads.shape
    result = heads.new_empty(batch, num_heads, tokens, head_dim).transpose(1, 2)
    weight = None if norm.weight is None else norm.weight.float()
    bias = None if norm.bias is None else norm.bias.float()
    turns = None if rotation is None else torch.view_as_complex(rotation[:, None].contiguous())
    for start in in_turn(range(0, tokens, BLOCK_TOKENS), heads):
        block = slice(start, start + BLOCK_TOKENS)
        normed = F.layer_norm(heads[:, block].float(), norm.normalized_shape, weight, bias, norm.eps)
        if turns is not None:
            torch.view_as_complex(normed.unflatten(-1, (-1, 2))).mul_(turns[block])
        result[:, block] = normed
    return result
