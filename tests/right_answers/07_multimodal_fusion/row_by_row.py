"""Loops over every query of every batch place and computes only with the keys that it may see."""

import math

import numpy as np

QUESTION = "attention_weights"


def attention_weights(query: np.ndarray, key: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2])
    query = np.broadcast_to(query, (*batch, *query.shape[-2:]))
    key = np.broadcast_to(key, (*batch, *key.shape[-2:]))
    weights = np.zeros((*batch, query.shape[-2], key.shape[-2]), query.dtype)
    mask = np.broadcast_to(np.array(True) if mask is None else mask, weights.shape)
    for place in np.ndindex(*weights.shape[:-1]):
        seen = mask[place]
        if seen.any():
            scores = key[place[:-1]][seen] @ query[place] / math.sqrt(query.shape[-1])
            odds = np.exp(scores - scores.max())
            weights[place][seen] = odds / odds.sum()
    return weights
