"""Each feature pairs with the sum of those before it, by a running sum along the row."""

import numpy as np

QUESTION = "fm_score"


def fm_score(x, w0, w, v):
    scores = np.asarray(x, dtype=float) @ w + w0
    for factor in v.T:
        own = x * factor
        before = np.cumsum(own, axis=1) - own
        scores = scores + np.sum(own * before, axis=1)
    return scores
