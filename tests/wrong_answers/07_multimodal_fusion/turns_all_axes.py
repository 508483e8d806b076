"""Writes key.T, which reverses all axes. It works until the first batch axis comes."""

import numpy as np

QUESTION = "attention_weights"
REJECTED_BY = "test_batch_axes_broadcast"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = query @ key.T / query.shape[-1] ** 0.5
    visible = np.broadcast_to(True if mask is None else mask, scores.shape)
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=np.finfo(scores.dtype).min))
    total = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
