"""Sorts tuples and walks through the levels with a running count; no NumPy but the arguments."""

import math
from itertools import groupby

QUESTION = "auc"


def auc(labels, scores):
    if len(labels) != len(scores):
        raise ValueError("lengths differ")
    rows = sorted(zip(scores.tolist(), labels.tolist(), strict=True), key=lambda row: row[0])
    if any(math.isnan(score) for score, _ in rows):
        raise ValueError("NaN among the scores")
    below = twice_won = clicks = 0
    for _, level in groupby(rows, key=lambda row: row[0]):
        kinds = [int(label) for _, label in level]
        here = sum(kinds)
        twice_won += here * (2 * below + len(kinds) - here)
        below += len(kinds) - here
        clicks += here
    return twice_won / (2 * clicks * below) if clicks * below else math.nan
