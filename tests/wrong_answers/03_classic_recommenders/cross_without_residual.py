"""Forgets to add x: the lower degrees are lost from layer to layer."""

QUESTION = "cross_layer"
REJECTED_BY = "test_vector_by_hand"


def cross_layer(x0, x, w, b):
    n = x0.shape[1]
    if w.shape == (n,):
        return x0 * (x @ w)[:, None] + b
    if w.shape == (n, n):
        return x0 * (x @ w.T + b)
    raise ValueError(f"w cannot have the shape {w.shape}")
