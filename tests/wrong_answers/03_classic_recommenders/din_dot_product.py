"""Uses the inner product with the candidate for a score, as a Transformer does, not the activation unit."""

import numpy as np

QUESTION = "target_attention"
REJECTED_BY = "test_raw_weights_are_the_scores"


def target_attention(candidate, history, present, w1, b1, w2, b2, normalise=False):
    e = np.where(present[..., None], history, 0).astype(history.dtype)
    c = np.repeat(candidate[:, None], e.shape[1], axis=1)
    scores = (e * c).sum(axis=-1)
    if normalise:
        masked = np.where(present, scores, -np.inf)
        top = masked.max(axis=1, keepdims=True, initial=-1e30)
        odds = np.where(present, np.exp(masked - top), 0)
        total = odds.sum(axis=1, keepdims=True)
        weights = odds / np.where(total > 0, total, 1)
    else:
        weights = np.where(present, scores, 0)
    weights = weights.astype(history.dtype)
    return (weights[:, :, None] * e).sum(axis=1), weights
