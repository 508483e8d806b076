"""Returns 0 when nobody is left, which a dashboard shows as a catastrophe."""

import numpy as np

QUESTION = "grouped_auc"
REJECTED_BY = "test_users_of_one_class_are_left_out"


def of_one(labels, scores):
    won = [(p > n) + (p == n) / 2 for p in scores[labels == 1] for n in scores[labels == 0]]
    return sum(won) / len(won) if won else float("nan")


def grouped_auc(users, labels, scores):
    if not len(users) == len(labels) == len(scores) or np.isnan(scores).any():
        raise ValueError("expected columns of one length, without NaN")
    total, weight = 0.0, 0
    for user in np.unique(users):
        value, rows = of_one(labels[users == user], scores[users == user]), (users == user).sum()
        if value == value:
            total, weight = total + rows * value, weight + rows
    return total / max(weight, 1)
