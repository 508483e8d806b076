"""Leaves the maximum of nothing at minus infinity."""

import numpy as np

QUESTION = "pool"
REJECTED_BY = "test_empty_texts_are_zeros"


def pool(states, real, how):
    if how == "mean":
        count = np.maximum(real.sum(axis=1, keepdims=True), 1).astype(states.dtype)
        return np.where(real[..., None], states, 0).sum(axis=1) / count
    if how == "max":
        return np.where(real[..., None], states, -np.inf).max(axis=1, initial=-np.inf)
    if how == "last":
        out = np.zeros((len(states), states.shape[2]), states.dtype)
        for row, (each, there) in enumerate(zip(states, real, strict=True)):
            if there.any():
                out[row] = each[np.flatnonzero(there)[-1]]
        return out
    raise ValueError(f"no such way: {how}")
