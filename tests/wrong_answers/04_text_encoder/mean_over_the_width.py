"""Divides by the width of the batch: a short text gets a short vector, and another one in another batch."""

import numpy as np

QUESTION = "pool"
REJECTED_BY = "test_mean_of_the_real"


def pool(states, real, how):
    if how == "mean":
        return np.where(real[..., None], states, 0).mean(axis=1)
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
