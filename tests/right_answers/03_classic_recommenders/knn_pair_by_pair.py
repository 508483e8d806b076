"""A loop over pairs of columns, and lists for a result."""

import numpy as np

QUESTION = "item_similarities"


def item_similarities(interactions, shrinkage=0.0):
    if not shrinkage >= 0:
        raise ValueError("shrinkage must not be negative")
    columns = [np.array(c, dtype=float) for c in np.asarray(interactions).T]
    out = [[0.0] * len(columns) for _ in columns]
    for i, a in enumerate(columns):
        for j, b in enumerate(columns):
            scale = np.linalg.norm(a) * np.linalg.norm(b) + shrinkage
            if i != j and scale > 0:
                out[i][j] = a @ b / scale
    return out if out else np.zeros((0, 0))
