"""Never looks at the shrinkage, so a negative one makes similarities above 1."""

import numpy as np

QUESTION = "item_similarities"
REJECTED_BY = "test_edges_of_similarities"


def item_similarities(interactions, shrinkage=0.0):
    x = interactions.astype(float)
    common = x.T @ x
    lengths = np.sqrt(np.diag(common))
    scale = np.outer(lengths, lengths) + shrinkage
    out = np.where(scale > 0, common / np.maximum(scale, 1e-300), 0.0)
    np.fill_diagonal(out, 0)
    return out
