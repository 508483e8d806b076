"""The new cache holds the new tokens alone; after two steps the beginning is forgotten."""

import numpy as np

QUESTION = "cached_attention"
REJECTED_BY = "test_chunks_equal_one_pass"


def cached_attention(query, key, value, cache=None, parents=None):
    fresh = key, value
    if cache is not None:
        keys, values = cache
        if parents is not None:
            keys, values = keys[parents], values[parents]
        key, value = np.concatenate([keys, key], axis=1), np.concatenate([values, value], axis=1)
    total, new = key.shape[1], query.shape[1]
    scores = query @ key.swapaxes(1, 2) / query.shape[2] ** 0.5
    visible = np.arange(total) <= np.arange(total - new, total)[:, None]
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    return weights / weights.sum(axis=2, keepdims=True) @ value, fresh
