"""Normalises along the wrong axis: the keys' columns add up to 1, not the queries' rows."""

import numpy as np

QUESTION = "attention_weights"
REJECTED_BY = "test_three_keys_by_hand"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = query @ np.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-2, keepdims=True, initial=np.finfo(scores.dtype).min))
    total = weights.sum(axis=-2, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
