"""Keys and values side by side in one array of a dictionary, scores with a triangle of -inf, scaled queries."""

import numpy as np

QUESTION = "cached_attention"


def cached_attention(query, key, value, cache=None, parents=None):
    dim, new = query.shape[-1], query.shape[1]
    both = np.concatenate([key, value], axis=-1)
    if cache is not None:
        old = cache["both"] if parents is None else np.take(cache["both"], parents, axis=0)
        both = np.concatenate([old, both], axis=1)
    keys, values = both[..., :dim], both[..., dim:]
    scores = (query * dim**-0.5) @ np.moveaxis(keys, 1, 2)
    scores[:, np.triu(np.ones((new, keys.shape[1]), bool), k=keys.shape[1] - new + 1)] = -np.inf
    scores -= scores.max(-1, keepdims=True)
    odds = np.exp(scores)
    return [odds @ values / odds.sum(-1, keepdims=True), {"both": both}]
