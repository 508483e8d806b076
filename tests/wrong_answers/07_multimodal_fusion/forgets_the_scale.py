"""Leaves out the division by the square root of the width.

Dot products grow with the width, and the softmax saturates.
"""

import numpy as np

QUESTION = "attention_weights"
REJECTED_BY = "test_three_keys_by_hand"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = query @ np.swapaxes(key, -1, -2)
    visible = np.broadcast_to(True if mask is None else mask, scores.shape)
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=np.finfo(scores.dtype).min))
    total = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
