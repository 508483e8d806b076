"""Row after row, with inner products of vectors."""

import numpy as np

QUESTION = "cross_layer"


def cross_layer(x0, x, w, b):
    n = x0.shape[-1]
    if w.shape not in ((n,), (n, n)):
        raise ValueError("w must be a vector or a square matrix over the features")
    out = np.empty(x0.shape)
    for row in range(len(x0)):
        mixed = np.dot(w, x[row])
        out[row] = x0[row] * mixed + b if w.ndim == 1 else x0[row] * (mixed + b)
        out[row] += x[row]
    return out
