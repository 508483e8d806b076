"""Numbers the distinct scores 1, 2, 3: a level with many rows takes one rank where it should take many."""

import numpy as np

QUESTION = "auc"
REJECTED_BY = "test_auc_of_a_few_rows"


def auc(labels, scores):
    if labels.shape != scores.shape or np.isnan(scores).any():
        raise ValueError("expected one score a label, none of them NaN")
    clicked = labels == 1
    clicks, others = clicked.sum(), (~clicked).sum()
    if not clicks or not others:
        return float("nan")
    rank = 1 + np.unique(scores, return_inverse=True)[1]
    return (rank[clicked].sum() - clicks * (clicks + 1) / 2) / (clicks * others)
