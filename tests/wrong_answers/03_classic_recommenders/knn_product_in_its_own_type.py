"""Multiplies booleans or 8-bit counts as they are: the product is an "or", or wraps around."""

import numpy as np

QUESTION = "item_similarities"
REJECTED_BY = "test_small_types_do_not_overflow"


def item_similarities(interactions, shrinkage=0.0):
    if shrinkage < 0:
        raise ValueError(f"shrinkage {shrinkage} is negative")
    x = interactions
    common = x.T @ x
    lengths = np.sqrt(np.diag(common))
    scale = np.outer(lengths, lengths) + shrinkage
    out = np.where(scale > 0, common / np.maximum(scale, 1e-300), 0.0)
    np.fill_diagonal(out, 0)
    return out
