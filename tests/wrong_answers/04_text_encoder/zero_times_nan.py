"""Silences padding by multiplying with 0: NaN times 0 is NaN."""

import numpy as np

QUESTION = "pool"
REJECTED_BY = "test_padding_is_never_read"


def pool(states, real, how):
    if how == "mean":
        count = np.maximum(real.sum(axis=1, keepdims=True), 1).astype(states.dtype)
        return (states * real[..., None].astype(states.dtype)).sum(axis=1) / count
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
