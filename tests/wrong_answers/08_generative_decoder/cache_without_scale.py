"""No division by the root of dim."""

import numpy as np

QUESTION = "cached_attention"
REJECTED_BY = "test_one_pass_is_causal"


def cached_attention(query, key, value, cache=None, parents=None):
    if cache is not None:
        keys, values = cache
        if parents is not None:
            keys, values = keys[parents], values[parents]
        key, value = np.concatenate([keys, key], axis=1), np.concatenate([values, value], axis=1)
    total, new = key.shape[1], query.shape[1]
    scores = query @ key.swapaxes(1, 2)
    visible = np.arange(total) <= np.arange(total - new, total)[:, None]
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    return weights / weights.sum(axis=2, keepdims=True) @ value, (key, value)
