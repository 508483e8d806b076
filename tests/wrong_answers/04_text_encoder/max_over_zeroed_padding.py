"""Sets padding to 0 before the maximum: 0 beats every negative number."""

import numpy as np

QUESTION = "pool"
REJECTED_BY = "test_max_of_the_real"


def pool(states, real, how):
    if how == "mean":
        count = np.maximum(real.sum(axis=1, keepdims=True), 1).astype(states.dtype)
        return np.where(real[..., None], states, 0).sum(axis=1) / count
    if how == "max":
        return np.where(real[..., None], states, 0).max(axis=1, initial=0)
    if how == "last":
        out = np.zeros((len(states), states.shape[2]), states.dtype)
        for row, (each, there) in enumerate(zip(states, real, strict=True)):
            if there.any():
                out[row] = each[np.flatnonzero(there)[-1]]
        return out
    raise ValueError(f"no such way: {how}")
