"""Works in float32, and mends what is not a number afterwards."""

import numpy as np

QUESTION = "item_similarities"


def item_similarities(interactions, shrinkage=0.0):
    if shrinkage < 0:
        raise ValueError(f"{shrinkage} is below 0")
    x = interactions.astype("float32")
    lengths = np.linalg.norm(x, axis=0)
    with np.errstate(all="ignore"):
        out = (x.T @ x) / (np.outer(lengths, lengths) + np.float32(shrinkage))
    return np.nan_to_num(out) * (1 - np.eye(x.shape[1], dtype="float32"))
