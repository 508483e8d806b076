"""Leaves the ones on the diagonal: every item is its own best neighbour."""

import numpy as np

QUESTION = "item_similarities"
REJECTED_BY = "test_diagonal_is_zero"


def item_similarities(interactions, shrinkage=0.0):
    if shrinkage < 0:
        raise ValueError(f"shrinkage {shrinkage} is negative")
    x = interactions.astype(float)
    common = x.T @ x
    lengths = np.sqrt(np.diag(common))
    scale = np.outer(lengths, lengths) + shrinkage
    out = np.where(scale > 0, common / np.maximum(scale, 1e-300), 0.0)
    return out
