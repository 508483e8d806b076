"""Rounds the scores to find ties, and so makes ties of scores that are only close."""

import numpy as np

QUESTION = "auc"
REJECTED_BY = "test_close_is_not_equal"


def auc(labels, scores):
    if labels.shape != scores.shape or np.isnan(scores).any():
        raise ValueError("expected one score a label, none of them NaN")
    scores = np.round(scores, 6)
    clicked, others = scores[labels == 1], np.sort(scores[labels == 0])
    if not len(clicked) or not len(others):
        return float("nan")
    below = np.searchsorted(others, clicked, side="left") + np.searchsorted(others, clicked, side="right")
    return below.mean() / 2 / len(others)
