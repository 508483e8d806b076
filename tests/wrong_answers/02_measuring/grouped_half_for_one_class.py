"""Gives users without a click ½ and keeps them: most users never click, and everything is drawn towards ½."""

import numpy as np

QUESTION = "grouped_auc"
REJECTED_BY = "test_users_of_one_class_are_left_out"


def of_one(labels, scores):
    won = [(p > n) + (p == n) / 2 for p in scores[labels == 1] for n in scores[labels == 0]]
    return sum(won) / len(won) if won else float("nan")


def grouped_auc(users, labels, scores):
    if not len(users) == len(labels) == len(scores) or np.isnan(scores).any():
        raise ValueError("expected columns of one length, without NaN")
    values = [of_one(labels[users == user], scores[users == user]) for user in np.unique(users)]
    sizes = [(users == user).sum() for user in np.unique(users)]
    return np.average(np.nan_to_num(values, nan=0.5), weights=sizes) if len(users) else float("nan")
