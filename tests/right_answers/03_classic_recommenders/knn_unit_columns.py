"""Columns of length one first; the shrinkage becomes a factor for each pair."""

import numpy as np

QUESTION = "item_similarities"


def item_similarities(interactions, shrinkage=0.0):
    if shrinkage < 0:
        raise ValueError("a negative shrinkage would blow similarities up")
    x = np.array(interactions, dtype=np.float64)
    lengths = np.sqrt((x**2).sum(axis=0))
    unit = x / np.where(lengths == 0, 1, lengths)
    product = lengths[:, None] * lengths
    factor = np.divide(product, product + shrinkage, out=np.zeros_like(product), where=product > 0)
    cosine = np.einsum("ui,uj->ij", unit, unit) * factor
    cosine[np.diag_indices_from(cosine)] = -0.0
    return cosine
