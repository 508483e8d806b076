"""Clears the contents of padding only: with a bias its score is not 0, and neither is its weight."""

import numpy as np

QUESTION = "target_attention"
REJECTED_BY = "test_padding_says_nothing"


def target_attention(candidate, history, present, w1, b1, w2, b2, normalise=False):
    e = np.where(present[..., None], history, 0).astype(history.dtype)
    c = np.repeat(candidate[:, None], e.shape[1], axis=1)
    units = np.maximum(np.concatenate([e, c, e - c, e * c], axis=-1) @ w1 + b1, 0)
    scores = units @ w2 + b2
    if normalise:
        masked = np.where(present, scores, -np.inf)
        top = masked.max(axis=1, keepdims=True, initial=-1e30)
        odds = np.where(present, np.exp(masked - top), 0)
        total = odds.sum(axis=1, keepdims=True)
        weights = odds / np.where(total > 0, total, 1)
    else:
        weights = scores
    weights = weights.astype(history.dtype)
    return (weights[:, :, None] * e).sum(axis=1), weights
