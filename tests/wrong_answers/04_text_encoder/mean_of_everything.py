"""Takes the mean over padding and all."""

import numpy as np

QUESTION = "pool"
REJECTED_BY = "test_two_tokens_and_padding_by_hand"


def pool(states, real, how):
    if how == "mean":
        return states.mean(axis=1) if states.shape[1] else states.sum(axis=1)
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
