"""The pairs as a difference of squared lengths."""

import numpy as np

QUESTION = "fm_score"


def fm_score(x, w0, w, v):
    x = x * 1.0
    joint = np.einsum("bn,nk->bk", x, v)
    return np.float64(w0) + x.dot(w) + (np.einsum("bk,bk->b", joint, joint) - (x * x).dot((v * v).sum(1))) / 2
