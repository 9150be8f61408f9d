"""The one attention function, and the choice of what computes it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Scores that are computed at a time: 4 MB in float32, small enough to stay in a core's caches.
BLOCK_SCORES = 2**20
# Powers of two up to this one and down to its inverse can be summed in float32, so that no maximum need be taken off.
SAFE_SCORE = 64.0


def attention(
    query: Tensor,  # (batch, heads, tokens, head_dim)
    key: Tensor,  # (batch, heads, key_tokens, head_dim)
    value: Tensor,  # (batch, heads, key_tokens, head_dim)
    mask: Tensor | None = None,  # added to the scores; broadcasts to (batch, heads, tokens, key_tokens)
) -> Tensor:  # (batch, heads, tokens, head_dim)
    """Scaled dot-product attention (arXiv:1706.03762, section 3.2.1)."""
    if mask is None and _blocks_pay(query, key, value):
        return blocked_attention(query, key, value)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _blocks_pay(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether `blocked_attention` is the faster one, by measurement (benchmarks/RESULTS.md)."""
    return (
        query.dtype == torch.bfloat16
        and query.device.type == "cpu"
        and query.shape[-1] >= 64
        and min(query.shape[-2], key.shape[-2]) >= 512
        and not torch.compiler.is_compiling()
        and not (torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad))
    )


def blocked_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention in bfloat16 for CPUs, some rows of one head at a time; it has no gradient.

    torch's own kernel for the CPU multiplies matrices at a fifth of the speed that its matrix product reaches.
    """
    batch, heads, tokens, head_dim = query.shape
    attended = query.new_empty(batch, tokens, heads, head_dim).transpose(1, 2)  # the layout of the next projection
    most_rows = max(1, BLOCK_SCORES * torch.get_num_threads() // key.shape[-2])
    num_rows = math.ceil(tokens / math.ceil(tokens / most_rows))  # blocks alike: a short last one is inefficient
    scale = math.log2(math.e) / math.sqrt(head_dim)  # for powers of two, which are quicker than those of e
    all_rounded = query.new_empty(num_rows, key.shape[-2])
    all_scores = torch.empty_like(all_rounded, dtype=torch.float32)
    for i in range(batch * heads):
        head = divmod(i, heads)
        keys = key[head].T
        is_safe = scale * _longest(query[head]) * _longest(key[head]) < SAFE_SCORE  # by Cauchy and Schwarz
        for rows, out in zip(query[head].split(num_rows), attended[head].split(num_rows), strict=True):
            rounded, scores = all_rounded[: len(rows)], all_scores[: len(rows)]
            # The product comes rounded to bfloat16, too coarse for an exponent. A second one gives the part lost.
            torch.addmm(rows[:1, :1], rows, keys, beta=0, alpha=scale, out=rounded)  # (rows, key_tokens)
            scores.copy_(rounded)
            scores += rounded.addmm_(rows, keys, beta=-1, alpha=scale)
            if not is_safe:
                scores -= scores.amax(-1, keepdim=True)
            scores.exp2_()
            scores *= scores.sum(-1, keepdim=True).reciprocal_()
            torch.mm(rounded.copy_(scores), value[head], out=out)
    return attended


def _longest(vectors: Tensor) -> float:
    """Length of the longest of some vectors."""
    return float(torch.linalg.vector_norm(vectors, dim=-1, dtype=torch.float32).amax())
