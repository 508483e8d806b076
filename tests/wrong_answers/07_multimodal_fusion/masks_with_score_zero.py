"""Multiplies the scores by the mask.

A score of 0 is not minus infinity: a masked key still gets exp(0) = 1 before division.
"""

import numpy as np

QUESTION = "attention_weights"
REJECTED_BY = "test_masked_keys_get_no_weight"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = query @ np.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores * mask
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
