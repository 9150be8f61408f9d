"""The one attention function."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attention(
    query: Tensor,  # (batch, heads, tokens, head_dim)
    key: Tensor,  # (batch, heads, key_tokens, head_dim)
    value: Tensor,  # (batch, heads, key_tokens, head_dim)
    mask: Tensor | None = None,  # added to the scores; broadcasts to (batch, heads, tokens, key_tokens)
) -> Tensor:  # (batch, heads, tokens, head_dim)
    """Scaled dot-product attention (arXiv:1706.03762, section 3.2.1)."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
