"""Puts the bias inside the product in the first version too."""

QUESTION = "cross_layer"
REJECTED_BY = "test_vector_by_hand"


def cross_layer(x0, x, w, b):
    n = x0.shape[1]
    if w.shape == (n,):
        return x0 * ((x @ w)[:, None] + b) + x
    if w.shape == (n, n):
        return x0 * (x @ w.T + b) + x
    raise ValueError(f"w cannot have the shape {w.shape}")
