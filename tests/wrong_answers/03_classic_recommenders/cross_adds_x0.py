"""Adds the first input, not that of this layer. In the first layer the two are the same, so nobody notices."""

QUESTION = "cross_layer"
REJECTED_BY = "test_vector_by_hand"


def cross_layer(x0, x, w, b):
    n = x0.shape[1]
    if w.shape == (n,):
        return x0 * (x @ w)[:, None] + b + x0
    if w.shape == (n, n):
        return x0 * (x @ w.T + b) + x0
    raise ValueError(f"w cannot have the shape {w.shape}")
