"""Multiplies by W without transposing it: rows and columns of the matrix are swapped."""

QUESTION = "cross_layer"
REJECTED_BY = "test_matrix_by_hand"


def cross_layer(x0, x, w, b):
    n = x0.shape[1]
    if w.shape == (n,):
        return x0 * (x @ w)[:, None] + b + x
    if w.shape == (n, n):
        return x0 * (x @ w + b) + x
    raise ValueError(f"w cannot have the shape {w.shape}")
