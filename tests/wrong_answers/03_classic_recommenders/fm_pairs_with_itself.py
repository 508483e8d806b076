"""Takes half the square of the sum and forgets to take the squares off: features pair with themselves."""

QUESTION = "fm_score"
REJECTED_BY = "test_one_feature_has_no_pair"


def fm_score(x, w0, w, v):
    x = x.astype(float)
    total = x @ v
    return w0 + x @ w + 0.5 * (total**2).sum(axis=1)
