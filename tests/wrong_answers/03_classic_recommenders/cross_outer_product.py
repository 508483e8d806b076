"""Builds x0 xᵀ for each row, as the paper writes it: n² numbers for a layer of n weights."""

import numpy as np

QUESTION = "cross_layer"
REJECTED_BY = "test_wide_vectors_are_cheap"


def cross_layer(x0, x, w, b):
    n = x0.shape[1]
    if w.shape == (n,):
        return np.einsum("bij,j->bi", x0[:, :, None] * x[:, None, :], w) + b + x
    if w.shape == (n, n):
        return x0 * (x @ w.T + b) + x
    raise ValueError(f"w cannot have the shape {w.shape}")
