"""Squares the sum twice: the second term is the square of the sum too, so all pairs vanish."""

QUESTION = "fm_score"
REJECTED_BY = "test_three_features_by_hand"


def fm_score(x, w0, w, v):
    x = x.astype(float)
    total = x @ v
    return w0 + x @ w + 0.5 * (total**2 - (x @ v) ** 2).sum(axis=1)
