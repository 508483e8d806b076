"""Divides float32 by an integer count, which makes float64."""

import numpy as np

QUESTION = "pool"
REJECTED_BY = "test_padding_is_never_read"


def pool(states, real, how):
    if how == "mean":
        return np.where(real[..., None], states, 0).sum(axis=1) / np.maximum(real.sum(axis=1, keepdims=True), 1)
    if how == "max":
        best = np.where(real[..., None], states, -np.inf).max(axis=1, initial=-np.inf)
        return np.where(real.any(axis=1)[:, None], best, 0)
    if how == "last":
        out = np.zeros((len(states), states.shape[2]), states.dtype)
        for row, (each, there) in enumerate(zip(states, real, strict=True)):
            if there.any():
                out[row] = each[np.flatnonzero(there)[-1]]
        return out
    raise ValueError(f"no such way: {how}")
