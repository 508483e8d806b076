"""Softmax first, then zeros where the mask is false.

The masked keys have taken part in the sum, so rows no longer add up to 1.
"""

import numpy as np

QUESTION = "attention_weights"
REJECTED_BY = "test_masked_keys_get_no_weight"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = query @ np.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return weights if mask is None else weights * mask
