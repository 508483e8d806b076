"""Cuts the log where the user changes, without sorting: a user who comes back counts as somebody new."""

import numpy as np

QUESTION = "grouped_auc"
REJECTED_BY = "test_any_ids_in_any_order"


def of_one(labels, scores):
    won = [(p > n) + (p == n) / 2 for p in scores[labels == 1] for n in scores[labels == 0]]
    return sum(won) / len(won) if won else float("nan")


def grouped_auc(users, labels, scores):
    if not len(users) == len(labels) == len(scores) or np.isnan(scores).any():
        raise ValueError("expected columns of one length, without NaN")
    total, weight = 0.0, 0
    for rows in np.split(np.arange(len(users)), np.flatnonzero(np.diff(users)) + 1):
        value = of_one(labels[rows], scores[rows])
        if value == value:
            total, weight = total + len(rows) * value, weight + len(rows)
    return total / weight if weight else float("nan")
