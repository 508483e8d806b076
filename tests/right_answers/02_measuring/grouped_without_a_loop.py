"""One sort by user and score; ranks within each user, and all sums by bincount."""

import numpy as np

QUESTION = "grouped_auc"


def grouped_auc(users, labels, scores):
    if not len(users) == len(labels) == len(scores) or np.isnan(scores).any():
        raise ValueError("expected columns of one length, without NaN")
    user = np.unique(users, return_inverse=True)[1]
    order = np.lexsort((scores, user))
    user, clicked, scores = user[order], (labels == 1)[order], scores[order]
    rows, clicks = np.bincount(user), np.bincount(user, weights=clicked)
    new_level = np.append(True, (np.diff(user) > 0) | (scores[1:] != scores[:-1]))[: len(user)]
    level = np.cumsum(new_level) - 1
    place = np.arange(len(user)) - (np.cumsum(rows) - rows)[user] + 1
    mean_place = (np.bincount(level, weights=place) / np.bincount(level))[level]
    won = np.bincount(user, weights=mean_place * clicked) - clicks * (clicks + 1) / 2
    pairs = clicks * (rows - clicks)
    kept = pairs > 0
    return np.average(won[kept] / pairs[kept], weights=rows[kept]) if kept.any() else np.nan
