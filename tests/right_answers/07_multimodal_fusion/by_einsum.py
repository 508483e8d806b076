"""Weight matrices cut into heads instead of activations, and everything else in Einstein's notation."""

import numpy as np

QUESTION = "cross_attention"


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

    q, k, v = (w.reshape(len(w), heads, w.shape[1] // heads) for w in (w_query, w_key, w_value))
    scores = np.einsum("...qd,dhw,...ke,ehw->...hqk", query, q, key, k) / q.shape[2] ** 0.5
    seen = None if mask is None else np.expand_dims(np.atleast_2d(mask), -3)
    out = w_out.reshape(heads, v.shape[2], w_out.shape[1])
    return np.einsum("...hqk,...kd,dhw,hwo->...qo", softmax(scores, seen), value, v, out)
