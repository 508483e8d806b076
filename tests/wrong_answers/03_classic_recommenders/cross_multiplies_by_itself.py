"""Multiplies by the input of this layer instead of x0: the degree doubles in each layer."""

QUESTION = "cross_layer"
REJECTED_BY = "test_vector_by_hand"


def cross_layer(x0, x, w, b):
    n = x0.shape[1]
    if w.shape == (n,):
        return x * (x @ w)[:, None] + b + x
    if w.shape == (n, n):
        return x * (x @ w.T + b) + x
    raise ValueError(f"w cannot have the shape {w.shape}")
