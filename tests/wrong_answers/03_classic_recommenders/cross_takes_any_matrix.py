"""Looks only at the number of axes of w, so that a wrong shape broadcasts into nonsense."""

QUESTION = "cross_layer"
REJECTED_BY = "test_edges_of_cross"


def cross_layer(x0, x, w, b):
    if w.ndim == 1:
        return x0 * (x @ w)[:, None] + b + x
    return x0 * (x @ w.T + b) + x
