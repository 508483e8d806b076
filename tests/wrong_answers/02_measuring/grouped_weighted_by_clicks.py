"""Weighs users by their clicks, where impressions were agreed: heavy clickers take over."""

import numpy as np

QUESTION = "grouped_auc"
REJECTED_BY = "test_users_weigh_as_much_as_they_were_shown"


def of_one(labels, scores):
    won = [(p > n) + (p == n) / 2 for p in scores[labels == 1] for n in scores[labels == 0]]
    return sum(won) / len(won) if won else float("nan")


def grouped_auc(users, labels, scores):
    if not len(users) == len(labels) == len(scores) or np.isnan(scores).any():
        raise ValueError("expected columns of one length, without NaN")
    total, weight = 0.0, 0
    for user in np.unique(users):
        value, clicks = of_one(labels[users == user], scores[users == user]), labels[users == user].sum()
        if value == value:
            total, weight = total + clicks * value, weight + clicks
    return total / weight if weight else float("nan")
