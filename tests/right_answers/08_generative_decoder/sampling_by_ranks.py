"""Nothing is put back: ranks say who is in the top k, and a matrix of comparisons how much is ahead of each token."""

import numpy as np

QUESTION = "sampling_distribution"


def sampling_distribution(logits, temperature=1.0, top_k=None, top_p=None):
    if not (temperature >= 0 and (top_k is None or top_k >= 1) and (top_p is None or 0 < top_p <= 1)):
        raise ValueError("a knob is out of range")
    if np.isneginf(logits).all(axis=-1).any():
        raise ValueError("a row has no token")
    ranks = np.argsort(np.argsort(-logits, axis=-1, kind="stable"), axis=-1, kind="stable")
    keep = ranks < (1 if temperature == 0 else logits.shape[-1] if top_k is None else top_k)
    with np.errstate(all="ignore"):
        cold = (logits - logits.max(axis=-1, keepdims=True)) / logits.dtype.type(temperature if temperature > 0 else 1)
    odds = np.where(keep, np.exp(cold), np.zeros((), logits.dtype))
    odds = odds / odds.sum(axis=-1, keepdims=True)
    if top_p is None or top_p == 1:
        return odds
    before = ranks[..., None, :] < ranks[..., :, None]
    ahead = (before * odds[..., None, :]).sum(axis=-1)
    odds = np.where(ahead < top_p, odds, np.zeros((), logits.dtype))
    return odds / odds.sum(axis=-1, keepdims=True)
