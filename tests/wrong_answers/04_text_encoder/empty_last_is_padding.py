"""The argmax of an empty row is 0 or the last place; the padding there is taken for the text."""

import numpy as np

QUESTION = "pool"
REJECTED_BY = "test_empty_texts_are_zeros"


def pool(states, real, how):
    if how == "mean":
        count = np.maximum(real.sum(axis=1, keepdims=True), 1).astype(states.dtype)
        return np.where(real[..., None], states, 0).sum(axis=1) / count
    if how == "max":
        best = np.where(real[..., None], states, -np.inf).max(axis=1, initial=-np.inf)
        return np.where(real.any(axis=1)[:, None], best, 0)
    if how == "last":
        if not states.size:
            return states.sum(axis=1)
        place = real.shape[1] - 1 - np.argmax(real[:, ::-1], axis=1)
        return states[np.arange(len(states)), place]
    raise ValueError(f"no such way: {how}")
