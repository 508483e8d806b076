"""Counts only the pairs that the click wins outright, so that a tie is a loss."""

import numpy as np

QUESTION = "auc"
REJECTED_BY = "test_a_tie_counts_one_half"


def auc(labels, scores):
    if labels.shape != scores.shape or np.isnan(scores).any():
        raise ValueError("expected one score a label, none of them NaN")
    clicked, others = scores[labels == 1], np.sort(scores[labels == 0])
    if not len(clicked) or not len(others):
        return float("nan")
    return np.searchsorted(others, clicked, side="left").mean() / len(others)
