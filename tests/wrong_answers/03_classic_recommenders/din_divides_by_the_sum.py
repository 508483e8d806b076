"""Normalises by dividing scores by their sum; negative scores make nonsense of that."""

import numpy as np

QUESTION = "target_attention"
REJECTED_BY = "test_softmax_over_real_events"


def target_attention(candidate, history, present, w1, b1, w2, b2, normalise=False):
    e = np.where(present[..., None], history, 0).astype(history.dtype)
    c = np.repeat(candidate[:, None], e.shape[1], axis=1)
    units = np.maximum(np.concatenate([e, c, e - c, e * c], axis=-1) @ w1 + b1, 0)
    scores = units @ w2 + b2
    if normalise:
        odds = np.where(present, scores, 0)
        total = odds.sum(axis=1, keepdims=True)
        weights = odds / np.where(total > 0, total, 1)
    else:
        weights = np.where(present, scores, 0)
    weights = weights.astype(history.dtype)
    return (weights[:, :, None] * e).sum(axis=1), weights
