"""Takes the position in the sorted order as the rank, so that tied rows get different ranks by luck."""

import numpy as np

QUESTION = "auc"
REJECTED_BY = "test_a_tie_counts_one_half"


def auc(labels, scores):
    if labels.shape != scores.shape or np.isnan(scores).any():
        raise ValueError("expected one score a label, none of them NaN")
    clicked = labels == 1
    clicks, others = clicked.sum(), (~clicked).sum()
    if not clicks or not others:
        return float("nan")
    rank = np.empty(len(scores))
    rank[np.argsort(scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return (rank[clicked].sum() - clicks * (clicks + 1) / 2) / (clicks * others)
