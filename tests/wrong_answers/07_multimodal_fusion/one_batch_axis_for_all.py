"""Unpacks exactly batch, tokens and width from every input.

Learned queries have no batch axis, and a layer may be called with two.
"""

import numpy as np

QUESTION = "cross_attention"
REJECTED_BY = "test_queries_may_be_shared_by_all_items"


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
    if heads < 1 or w_query.shape[1] % heads or w_value.shape[1] % heads:
        raise ValueError(f"{heads} heads do not divide the widths")

    def split(x: np.ndarray) -> np.ndarray:
        x = x if x.ndim == 3 else x[None]
        batch, tokens, width = x.shape
        return x.reshape(batch, tokens, heads, width // heads).transpose(0, 2, 1, 3)

    flat = query.ndim == 2
    if mask is not None:
        mask = np.broadcast_to(mask, (len(query) if query.ndim == 3 else 1, query.shape[-2], key.shape[-2]))[:, None]
    q, k, v = split(query @ w_query), split(key @ w_key), split(value @ w_value)
    mixed = softmax(q @ np.swapaxes(k, -1, -2) / q.shape[-1] ** 0.5, mask) @ v
    out = mixed.transpose(0, 2, 1, 3).reshape(len(mixed), -1, w_value.shape[1]) @ w_out
    return out[0] if flat else out
