"""Computes in float64 throughout, by a masked array, and rounds to the inputs' type at the end."""

import numpy as np

QUESTION = "attention_weights"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    scores = np.matmul(query.astype(float), np.moveaxis(key.astype(float), -1, -2)) / np.sqrt(query.shape[-1])
    if scores.size == 0:
        return scores.astype(query.dtype)
    hidden = np.zeros(scores.shape, bool) if mask is None else np.broadcast_to(~np.asarray(mask), scores.shape)
    masked = np.ma.masked_array(scores, hidden.copy())
    odds = np.ma.exp(masked - masked.max(axis=-1, keepdims=True)).filled(0)
    total = odds.sum(axis=-1, keepdims=True)
    return (odds / np.where(total == 0, 1, total)).astype(query.dtype)
