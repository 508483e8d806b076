"""Subtracts the maximum of the whole matrix. A row that lies far below it underflows to zeros."""

import numpy as np

QUESTION = "attention_weights"
REJECTED_BY = "test_large_scores_stay_finite"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = query @ np.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5
    visible = np.broadcast_to(True if mask is None else mask, scores.shape)
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(initial=np.finfo(scores.dtype).min))
    total = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
