"""The lowest finite number in place of -inf, then masked weights set to zero, so that a blind row needs no special
case.
"""

import numpy as np

QUESTION = "attention_weights"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = np.einsum("...qd,...kd->...qk", query, key) * query.shape[-1] ** -0.5
    if key.shape[-2] == 0:
        return scores
    seen = np.ones(scores.shape, bool) if mask is None else np.broadcast_to(mask, scores.shape)
    scores = np.where(seen, scores, np.finfo(scores.dtype).min)
    odds = np.exp(scores - scores.max(-1, keepdims=True)) * seen
    return odds / np.maximum(odds.sum(-1, keepdims=True), np.finfo(scores.dtype).tiny)
