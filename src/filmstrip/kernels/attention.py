"""The one attention function, and the choice of what computes it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from filmstrip.kernels.linear import product, takes_onednn
from filmstrip.kernels.valueless import in_turn

# Scores that are computed at a time: 4 MB in float32, small enough to stay in a core's caches.
BLOCK_SCORES = 2**20
# Powers of two up to this one and down to its inverse can be summed in float32, so that no maximum need be taken off.
SAFE_SCORE = 64.0
# Tokens from which on blocks are the faster way, by measurement (benchmarks/RESULTS.md).
MIN_TOKENS, MIN_KEY_TOKENS = 256, 64


def attention(
    query: Tensor,  # (batch, heads, tokens, head_dim)
    key: Tensor,  # (batch, heads, key_tokens, head_dim)
    value: Tensor,  # (batch, heads, key_tokens, head_dim)
    mask: Tensor | None = None,  # added to the scores; broadcasts to (batch, heads, tokens, key_tokens)
) -> Tensor:  # (batch, heads, tokens, head_dim)
    """Scaled dot-product attention (arXiv:1706.03762, section 3.2.1)."""
    many = query.shape[-2] >= MIN_TOKENS and key.shape[-2] >= MIN_KEY_TOKENS
    if mask is None and many and takes_onednn(query, key):
        return blocked_attention(query, key, value)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def blocked_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention for CPUs from oneDNN's products, some rows of one head at a time; it has no gradient.

    torch's own kernel for the CPU multiplies matrices at less than half the speed that they reach. Scores and weights
    are in float32 for every type; the weights are rounded to the values' type.
    """
    batch, heads, tokens, head_dim = query.shape
    attended = query.new_empty(batch, tokens, heads, head_dim).transpose(1, 2)  # the layout of the next projection
    most_rows = max(1, BLOCK_SCORES * torch.get_num_threads() // key.shape[-2])
    num_rows = math.ceil(tokens / math.ceil(tokens / most_rows))  # blocks alike: a short last one is inefficient
    scale = math.log2(math.e) / math.sqrt(head_dim)  # for powers of two, which are quicker than those of e
    for i in in_turn(range(batch * heads), query):
        head = divmod(i, heads)
        queries, keys = query[head].float() * scale, key[head].float()
        values = value[head].T.contiguous()  # (head_dim, key_tokens)
        is_safe = _longest(queries) * _longest(keys) < SAFE_SCORE  # by Cauchy and Schwarz
        for rows, out in in_turn(zip(queries.split(num_rows), attended[head].split(num_rows), strict=True), query):
            scores = product(rows, keys)  # (rows, key_tokens)
            if not is_safe:
                scores -= scores.amax(-1, keepdim=True)
            scores.exp2_()
            total = scores.sum(-1, keepdim=True)
            if value.dtype == torch.float32:
                torch.div(product(scores, values), total, out=out)
            else:
                scores *= total.reciprocal_()
                out.copy_(product(scores.to(value.dtype), values))
    return attended


def _longest(vectors: Tensor) -> float:
    """Length of the longest of some vectors."""
    return float(torch.linalg.vector_norm(vectors, dim=-1).amax())
