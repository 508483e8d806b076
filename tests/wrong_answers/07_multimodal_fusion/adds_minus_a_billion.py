"""Adds -1e9 to masked scores.

A row where all are masked is shifted as a whole, so softmax spreads it over the masked keys.
"""

import numpy as np

QUESTION = "attention_weights"
REJECTED_BY = "test_a_query_that_sees_nothing_gets_zeros"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = query @ np.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores + np.where(mask, 0.0, -1e9)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
