"""A running softmax:

modalities arrive one by one, with a running maximum and sum, as in FlashAttention. Nothing is concatenated.
"""

import numpy as np

QUESTION = "fuse_modalities"


def fuse_modalities(query: np.ndarray, tokens: dict[str, np.ndarray], present: dict[str, np.ndarray]) -> np.ndarray:
    items, lowest = len(next(iter(present.values()))), np.finfo(query.dtype).min
    top = np.full((items, len(query), 1), lowest, query.dtype)
    total, mixed = np.zeros_like(top), np.zeros((items, *query.shape), query.dtype)
    for name in sorted(tokens):
        there = present[name][:, None, None]
        block = np.where(there, tokens[name], 0)
        scores = np.where(there, query @ block.transpose(0, 2, 1) / query.shape[1] ** 0.5, lowest)
        higher = np.maximum(top, scores.max(axis=2, keepdims=True, initial=lowest))
        odds, shrink = np.exp(scores - higher) * there, np.exp(top - higher)
        total, mixed = total * shrink + odds.sum(axis=2, keepdims=True), mixed * shrink + odds @ block
        top = higher
    empty = np.unique(np.nonzero(total == 0)[0])
    if empty.size:
        raise ValueError(f"no modality present in items {empty}")
    return mixed / total
