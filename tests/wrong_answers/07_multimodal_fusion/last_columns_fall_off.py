"""Cuts the heads by slices of width // heads without a check.

Where the width does not divide, the last columns are silently dropped.
"""

import numpy as np

QUESTION = "cross_attention"
REJECTED_BY = "test_heads_must_fit"


def softmax(scores: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Over the last axis; zeros where nothing is visible."""
    visible = np.broadcast_to(True if mask is None else mask, scores.shape)
    scores = np.where(visible, scores, -np.inf)
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=np.finfo(scores.dtype).min))
    total = odds.sum(axis=-1, keepdims=True)
    return np.divide(odds, total, out=np.zeros_like(odds), where=total > 0)


def cross_attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    w_query: np.ndarray,
    w_key: np.ndarray,
    w_value: np.ndarray,
    w_out: np.ndarray,
    heads: int,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    if mask is not None:
        mask = np.atleast_2d(mask)

    wide, wide_value = w_query.shape[1] // heads, w_value.shape[1] // heads
    out = []
    for h in range(heads):
        own, own_value = slice(h * wide, (h + 1) * wide), slice(h * wide_value, (h + 1) * wide_value)
        scores = query @ w_query[:, own] @ np.swapaxes(key @ w_key[:, own], -1, -2) / wide**0.5
        out.append(softmax(scores, mask) @ (value @ w_value[:, own_value]))
    joined = np.concatenate(out, axis=-1)
    return joined @ w_out[: joined.shape[-1]]
