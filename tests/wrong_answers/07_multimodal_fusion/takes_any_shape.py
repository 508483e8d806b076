"""Checks nothing.

Scores of four sets for three modalities end in an IndexError deep inside, and those of eight for two in numbers.
"""

from itertools import permutations

import numpy as np

QUESTION = "modality_credit"
REJECTED_BY = "test_shapes_must_fit"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    credit = np.full((items, modalities), np.nan)
    for item in range(items):
        there = np.flatnonzero(present[item]).tolist()
        orders = list(permutations(there))
        credit[item, there] = 0
        for order in orders:
            shown = 0
            for m in order:
                credit[item, m] += (scores[shown | 1 << m, item] - scores[shown, item]) / len(orders)
                shown |= 1 << m
    return credit
