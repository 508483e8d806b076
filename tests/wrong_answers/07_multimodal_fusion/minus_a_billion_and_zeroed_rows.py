"""Adds -1e9 to masked scores and mends the rows that see nothing.

NaN plus anything is NaN, and real scores may be lower than -1e9.
"""

import numpy as np

QUESTION = "attention_weights"
REJECTED_BY = "test_what_is_masked_is_never_read"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = query @ np.swapaxes(key, -1, -2) / query.shape[-1] ** 0.5
    mask = np.broadcast_to(True if mask is None else mask, scores.shape)
    scores = scores + (~mask).astype(scores.dtype) * scores.dtype.type(-1e9)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-1e300)) * mask
    total = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=mask.any(axis=-1, keepdims=True))
