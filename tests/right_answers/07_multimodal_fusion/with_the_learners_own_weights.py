"""Calls attention_weights of question 1, and fills the mask up to its full shape before it adds the heads' axis."""

import numpy as np

QUESTION = "cross_attention"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """As in question 1."""
    scores = np.where(mask, query @ np.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5, -np.inf)
    odds = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), np.finfo(scores.dtype).min))
    return odds / np.maximum(odds.sum(-1, keepdims=True), np.finfo(scores.dtype).tiny)


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

    def heads_first(x: np.ndarray) -> np.ndarray:
        return np.stack(np.split(x, heads, axis=-1), axis=-3)

    q, k, v = heads_first(query @ w_query), heads_first(key @ w_key), heads_first(value @ w_value)
    batch = np.broadcast_shapes(q.shape[:-3], k.shape[:-3])
    seen = np.broadcast_to(True if mask is None else mask, (*batch, q.shape[-2], k.shape[-2]))[..., None, :, :]
    found = attention_weights(q, k, seen) @ v
    return np.concatenate([found[..., h, :, :] for h in range(heads)], axis=-1) @ w_out
