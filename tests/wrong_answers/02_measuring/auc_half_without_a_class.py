"""Gives a missing class the AUC of a coin, ½, which then slips into every mean."""

import numpy as np

QUESTION = "auc"
REJECTED_BY = "test_no_pairs_no_value"


def auc(labels, scores):
    if labels.shape != scores.shape or np.isnan(scores).any():
        raise ValueError("expected one score a label, none of them NaN")
    clicked, others = scores[labels == 1], np.sort(scores[labels == 0])
    if not len(clicked) or not len(others):
        return 0.5
    below = np.searchsorted(others, clicked, side="left") + np.searchsorted(others, clicked, side="right")
    return below.mean() / 2 / len(others)
