"""Squares integer features in their own type: 8 bits wrap around at 128."""

QUESTION = "fm_score"
REJECTED_BY = "test_integer_features"


def fm_score(x, w0, w, v):
    total = x @ v
    return w0 + x @ w + 0.5 * (total**2 - x**2 @ v**2).sum(axis=1)
