"""Collects the rows of each user in a dictionary and compares all pairs; plain Python numbers."""

import math
from collections import defaultdict

QUESTION = "grouped_auc"


def grouped_auc(users, labels, scores):
    of_user = defaultdict(list)
    for user, label, score in zip(
        users.tolist(), labels.tolist(), scores.tolist(), strict=True
    ):  # ValueError by itself
        if math.isnan(score):
            raise ValueError("NaN among the scores")
        of_user[user].append((label, score))
    total = weight = 0
    for rows in of_user.values():
        wins = [(p > n) + 0.5 * (p == n) for click, p in rows if click for other, n in rows if not other]
        if wins:
            total += len(rows) * sum(wins) / len(wins)
            weight += len(rows)
    return total / weight if weight else math.nan
