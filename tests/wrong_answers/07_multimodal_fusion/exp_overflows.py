"""Takes exp of the raw scores.

exp(710) is infinite in float64, exp(89) in float32, and infinity over infinity is NaN.
"""

import numpy as np

QUESTION = "attention_weights"
REJECTED_BY = "test_large_scores_stay_finite"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = query @ np.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5
    visible = np.broadcast_to(True if mask is None else mask, scores.shape)
    weights = np.where(visible, np.exp(scores), 0)
    total = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
