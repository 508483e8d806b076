"""Loops over rows and real events only; nested lists come back where the type is free."""

import numpy as np

QUESTION = "target_attention"


def target_attention(candidate, history, present, w1, b1, w2, b2, normalise=False):
    pooled, weights = np.zeros_like(candidate), np.zeros(present.shape, dtype=candidate.dtype)
    for row, c in enumerate(candidate):
        places = [k for k in range(present.shape[1]) if present[row, k]]
        if not places:
            continue
        scores = []
        for k in places:
            e = history[row, k]
            features = np.hstack([e, c, e - c, e * c])
            scores.append(float(np.dot(np.clip(features @ w1 + b1, 0, None), w2) + b2))
        scores = np.array(scores)
        if normalise:
            scores = np.exp(scores - scores.max())
            scores /= scores.sum()
        weights[row, places] = scores
        pooled[row] = scores @ history[row, places]
    return [pooled, weights]
