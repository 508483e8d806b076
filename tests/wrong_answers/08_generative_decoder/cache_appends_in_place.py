"""Lists that grow in place: the next continuation of the same cache finds the first one's tokens in it."""

import numpy as np

QUESTION = "cached_attention"
REJECTED_BY = "test_an_old_cache_stays_good"


def cached_attention(query, key, value, cache=None, parents=None):
    if cache is not None:
        if parents is not None:
            cache = [[old[parents] for old in part] for part in cache]
        cache[0].append(key)
        cache[1].append(value)
    else:
        cache = [[key], [value]]
    key, value = np.concatenate(cache[0], axis=1), np.concatenate(cache[1], axis=1)
    total, new = key.shape[1], query.shape[1]
    scores = query @ key.swapaxes(1, 2) / query.shape[2] ** 0.5
    visible = np.arange(total) <= np.arange(total - new, total)[:, None]
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    return weights / weights.sum(axis=2, keepdims=True) @ value, cache
