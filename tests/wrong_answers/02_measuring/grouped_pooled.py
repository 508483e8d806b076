"""Takes one AUC over all rows: it compares the rows of different users, which no list ever does."""

import numpy as np

QUESTION = "grouped_auc"
REJECTED_BY = "test_only_pairs_within_a_user_count"


def of_one(labels, scores):
    won = [(p > n) + (p == n) / 2 for p in scores[labels == 1] for n in scores[labels == 0]]
    return sum(won) / len(won) if won else float("nan")


def grouped_auc(users, labels, scores):
    if not len(users) == len(labels) == len(scores) or np.isnan(scores).any():
        raise ValueError("expected columns of one length, without NaN")
    return of_one(labels, scores)
