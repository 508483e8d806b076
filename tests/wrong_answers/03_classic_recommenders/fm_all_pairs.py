"""Builds the matrix of all pairs: the numbers are right, but a million features need 8 TB."""

import numpy as np

QUESTION = "fm_score"
REJECTED_BY = "test_wide_rows_are_cheap"


def fm_score(x, w0, w, v):
    pairs = np.triu(v @ v.T, 1)
    return w0 + x @ w + np.einsum("bi,ij,bj->b", x.astype(float), pairs, x.astype(float))
