"""Lets NaN scores through; they sort to the end and count as the best of all."""

import numpy as np

QUESTION = "auc"
REJECTED_BY = "test_what_has_no_order_is_refused"


def auc(labels, scores):
    if labels.shape != scores.shape:
        raise ValueError("expected one score a label")
    clicked, others = scores[labels == 1], np.sort(scores[labels == 0])
    if not len(clicked) or not len(others):
        return float("nan")
    below = np.searchsorted(others, clicked, side="left") + np.searchsorted(others, clicked, side="right")
    return below.mean() / 2 / len(others)
