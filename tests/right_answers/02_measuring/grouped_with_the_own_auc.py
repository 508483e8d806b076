"""Calls an AUC of its own for the mask of each user, in the order of first appearance."""

import numpy as np

QUESTION = "grouped_auc"


def of_one(labels, scores):
    won = [(p > n) + (p == n) / 2 for p in scores[labels == 1] for n in scores[labels == 0]]
    return sum(won) / len(won) if won else float("nan")


def grouped_auc(users, labels, scores):
    if not len(users) == len(labels) == len(scores) or np.isnan(scores).any():
        raise ValueError("expected columns of one length, without NaN")
    values, weights = [], []
    for user in dict.fromkeys(users.tolist()):
        mine = users == user
        if 0 < labels[mine].sum() < mine.sum():
            values.append(of_one(labels[mine], scores[mine]))
            weights.append(int(mine.sum()))
    return np.dot(values, weights) / np.sum(weights) if values else np.float32("nan")
