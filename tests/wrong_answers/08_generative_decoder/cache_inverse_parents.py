"""Row p of the cache goes to row b, where row b should come from row p: the inverse permutation."""

import numpy as np

QUESTION = "cached_attention"
REJECTED_BY = "test_rows_continue_their_parents"


def cached_attention(query, key, value, cache=None, parents=None):
    if cache is not None:
        keys, values = cache
        if parents is not None:
            keys, values = keys[np.argsort(parents)], values[np.argsort(parents)]
        key, value = np.concatenate([keys, key], axis=1), np.concatenate([values, value], axis=1)
    total, new = key.shape[1], query.shape[1]
    scores = query @ key.swapaxes(1, 2) / query.shape[2] ** 0.5
    visible = np.arange(total) <= np.arange(total - new, total)[:, None]
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    return weights / weights.sum(axis=2, keepdims=True) @ value, (key, value)
