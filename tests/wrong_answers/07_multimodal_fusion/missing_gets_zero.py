"""Gives a missing modality a credit of 0. A mean over items then counts what is not there as useless."""

from itertools import permutations

import numpy as np

QUESTION = "modality_credit"
REJECTED_BY = "test_the_missing_never_arrive"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}, expected {(2**modalities, items)}")
    credit = np.zeros((items, modalities))
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
