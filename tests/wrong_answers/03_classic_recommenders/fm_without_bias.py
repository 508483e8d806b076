"""Forgets w0."""

QUESTION = "fm_score"
REJECTED_BY = "test_three_features_by_hand"


def fm_score(x, w0, w, v):
    x = x.astype(float)
    total = x @ v
    return x @ w + 0.5 * (total**2 - x**2 @ v**2).sum(axis=1)
