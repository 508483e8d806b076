"""Compares every click with every other row: right, and out of memory on the first real log."""

import numpy as np

QUESTION = "auc"
REJECTED_BY = "test_grows_like_a_sort"


def auc(labels, scores):
    if labels.shape != scores.shape or np.isnan(scores).any():
        raise ValueError("expected one score a label, none of them NaN")
    clicked, others = scores[labels == 1][:, None], scores[labels == 0]
    if not clicked.size or not others.size:
        return float("nan")
    return (clicked > others).mean() + (clicked == others).mean() / 2
