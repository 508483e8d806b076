"""The textbook layer: a query that may look at nothing becomes NaN, and the next layer spreads it over everything."""

import numpy as np

QUESTION = "cross_attention"
REJECTED_BY = "test_a_blind_query_gets_zeros"


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
        return np.swapaxes(x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads), -2, -3)

    if mask is not None:
        mask = np.atleast_2d(mask)[..., None, :, :]

    q, k, v = split(query @ w_query), split(key @ w_key), split(value @ w_value)
    scores = q @ np.swapaxes(k, -1, -2) / q.shape[-1] ** 0.5
    scores = scores if mask is None else np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = np.swapaxes(weights / weights.sum(-1, keepdims=True) @ v, -2, -3)
    return mixed.reshape(*mixed.shape[:-2], w_value.shape[1]) @ w_out
