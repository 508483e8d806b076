"""Everything that equals the k-th logit stays: with ties, more than k."""

import numpy as np

QUESTION = "sampling_distribution"
REJECTED_BY = "test_top_k_keeps_exactly_k"


def sampling_distribution(logits, temperature=1.0, top_k=None, top_p=None):
    if not temperature >= 0:
        raise ValueError(f"the temperature is {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}")
    order = np.argsort(-logits, axis=-1, kind="stable")
    ranked = np.take_along_axis(logits, order, axis=-1)
    if (ranked[..., :1] == -np.inf).any():
        raise ValueError("a row without an allowed token")
    most = 1 if temperature == 0 else top_k
    with np.errstate(over="ignore"):
        ranked = (ranked - ranked[..., :1]) / (temperature or 1)
    weights = np.exp(ranked)
    if most is not None:
        weights = np.where(ranked < ranked[..., :most][..., -1:], 0, weights)
    chances = weights / weights.sum(axis=-1, keepdims=True)
    if top_p is not None and top_p < 1:
        ahead = np.cumsum(chances, axis=-1) - chances
        chances = np.where(ahead < top_p, chances, 0)
        chances = chances / chances.sum(axis=-1, keepdims=True)
    out = np.empty_like(chances)
    np.put_along_axis(out, order, chances, axis=-1)
    return out
