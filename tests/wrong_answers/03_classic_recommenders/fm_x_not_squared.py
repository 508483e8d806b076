"""Takes off the squares of v times x instead of x squared: right for 0 and 1 only."""

QUESTION = "fm_score"
REJECTED_BY = "test_equals_the_sum_over_pairs"


def fm_score(x, w0, w, v):
    x = x.astype(float)
    total = x @ v
    return w0 + x @ w + 0.5 * (total**2 - x @ v**2).sum(axis=1)
