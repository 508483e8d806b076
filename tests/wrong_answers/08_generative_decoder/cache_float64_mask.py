"""A mask of float64 added to float32 scores: everything after it is float64, and the cache twice as large."""

import numpy as np

QUESTION = "cached_attention"
REJECTED_BY = "test_types_and_large_scores"


def cached_attention(query, key, value, cache=None, parents=None):
    if cache is not None:
        keys, values = cache
        if parents is not None:
            keys, values = keys[parents], values[parents]
        key, value = np.concatenate([keys, key], axis=1), np.concatenate([values, value], axis=1)
    total, new = key.shape[1], query.shape[1]
    scores = query @ key.swapaxes(1, 2) / query.shape[2] ** 0.5
    visible = np.arange(total) <= np.arange(total - new, total)[:, None]
    scores = scores + np.where(visible, 0.0, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    return weights / weights.sum(axis=2, keepdims=True) @ value, (key, value)
