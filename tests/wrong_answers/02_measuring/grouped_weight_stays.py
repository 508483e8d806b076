"""Leaves users of one class out of the sum, and forgets to take their rows out of the weight."""

import numpy as np

QUESTION = "grouped_auc"
REJECTED_BY = "test_users_of_one_class_are_left_out"


def of_one(labels, scores):
    won = [(p > n) + (p == n) / 2 for p in scores[labels == 1] for n in scores[labels == 0]]
    return sum(won) / len(won) if won else float("nan")


def grouped_auc(users, labels, scores):
    if not len(users) == len(labels) == len(scores) or np.isnan(scores).any():
        raise ValueError("expected columns of one length, without NaN")
    total = kept = 0
    for user in np.unique(users):
        value = of_one(labels[users == user], scores[users == user])
        if value == value:
            total, kept = total + (users == user).sum() * value, kept + 1
    return total / len(users) if kept else float("nan")
