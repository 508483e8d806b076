"""Index notation; the vector is told from the matrix by its axes, after the shape is checked."""

import numpy as np

QUESTION = "cross_layer"


def cross_layer(x0, x, w, b):
    if w.ndim not in (1, 2) or set(w.shape) != {x.shape[1]}:
        raise ValueError(f"unexpected shape {w.shape}")
    if w.ndim == 2:
        return np.einsum("bi,bi->bi", x0, np.einsum("ij,bj->bi", w, x) + b) + x
    return np.einsum("bi,b->bi", x0, np.einsum("bj,j->b", x, w)) + (x + b)
