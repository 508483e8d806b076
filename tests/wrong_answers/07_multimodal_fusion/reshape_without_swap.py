"""Reshapes straight to (heads, tokens, width). The numbers fit, but a head then holds pieces of different tokens."""

import numpy as np

QUESTION = "cross_attention"
REJECTED_BY = "test_heads_own_consecutive_columns"


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
        return x.reshape(*x.shape[:-2], heads, x.shape[-2], x.shape[-1] // heads)

    if mask is not None:
        mask = np.atleast_2d(mask)[..., None, :, :]

    q, k, v = split(query @ w_query), split(key @ w_key), split(value @ w_value)
    weights = softmax(q @ np.swapaxes(k, -1, -2) / q.shape[-1] ** 0.5, mask)
    mixed = np.swapaxes(weights @ v, -2, -3)
    return mixed.reshape(*mixed.shape[:-2], w_value.shape[1]) @ w_out
