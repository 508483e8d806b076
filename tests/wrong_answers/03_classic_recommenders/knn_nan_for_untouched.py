"""Divides by the product of the lengths, which is 0 for an item without users: 0 / 0."""

import numpy as np

QUESTION = "item_similarities"
REJECTED_BY = "test_untouched_items_are_like_none"


def item_similarities(interactions, shrinkage=0.0):
    if shrinkage < 0:
        raise ValueError(f"shrinkage {shrinkage} is negative")
    x = interactions.astype(float)
    common = x.T @ x
    lengths = np.sqrt(np.diag(common))
    scale = np.outer(lengths, lengths) + shrinkage
    out = common / scale
    np.fill_diagonal(out, 0)
    return out
