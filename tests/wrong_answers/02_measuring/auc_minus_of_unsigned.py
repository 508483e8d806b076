"""Sorts by minus score; with unsigned integers minus 1 is the largest number, and 0 stays the smallest."""

import numpy as np

QUESTION = "auc"
REJECTED_BY = "test_close_is_not_equal"


def auc(labels, scores):
    if labels.shape != scores.shape or np.isnan(scores).any():
        raise ValueError("expected one score a label, none of them NaN")
    clicked, others = -scores[labels == 1], np.sort(-scores[labels == 0])
    if not len(clicked) or not len(others):
        return float("nan")
    above = np.searchsorted(others, clicked, side="left") + np.searchsorted(others, clicked, side="right")
    return 1 - above.mean() / 2 / len(others)
