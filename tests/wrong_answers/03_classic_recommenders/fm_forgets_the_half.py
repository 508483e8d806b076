"""Square of the sum minus sum of the squares holds each pair twice; the half is missing."""

QUESTION = "fm_score"
REJECTED_BY = "test_three_features_by_hand"


def fm_score(x, w0, w, v):
    x = x.astype(float)
    total = x @ v
    return w0 + x @ w + (total**2 - x**2 @ v**2).sum(axis=1)
