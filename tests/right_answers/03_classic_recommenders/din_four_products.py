"""Splits w1 into its four parts and never joins the features; softmax by log of sums."""

import numpy as np

QUESTION = "target_attention"


def target_attention(candidate, history, present, w1, b1, w2, b2, normalise=False):
    d = candidate.shape[1]
    e = np.where(present[:, :, None], history, np.zeros_like(history))
    of_event, of_candidate, of_difference, of_product = (w1[n * d : (n + 1) * d] for n in range(4))
    c = candidate[:, None, :]
    units = e @ (of_event + of_difference) + c @ (of_candidate - of_difference) + (e * c) @ of_product + b1
    scores = np.where(units > 0, units, 0) @ w2 + b2
    weights = np.where(present, scores, 0)
    if normalise and present.size:
        masked = np.where(present, scores, -np.inf)
        total = np.logaddexp.reduce(masked, axis=1, keepdims=True)
        weights = np.exp(masked - np.where(np.isinf(total), 0, total))
    weights = weights.astype(candidate.dtype)
    return np.matmul(weights[:, None, :], e)[:, 0], weights
