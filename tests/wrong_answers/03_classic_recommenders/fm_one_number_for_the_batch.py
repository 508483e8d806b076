"""Sums over the batch as well, so that all rows get the pairs of all rows."""

QUESTION = "fm_score"
REJECTED_BY = "test_equals_the_sum_over_pairs"


def fm_score(x, w0, w, v):
    x = x.astype(float)
    total = x @ v
    return w0 + x @ w + 0.5 * (total**2 - x**2 @ v**2).sum()
