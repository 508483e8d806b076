"""Counts, for each click, the rows below and not above by bisection in the sorted others."""

import numpy as np

QUESTION = "auc"


def auc(labels, scores):
    if labels.shape != scores.shape or np.isnan(scores).any():
        raise ValueError("expected one score a label, none of them NaN")
    clicked, others = scores[labels == 1], np.sort(scores[labels == 0])
    if not len(clicked) or not len(others):
        return np.float64("nan")
    below = np.searchsorted(others, clicked, side="left") + np.searchsorted(others, clicked, side="right")
    return below.mean() / 2 / len(others)
