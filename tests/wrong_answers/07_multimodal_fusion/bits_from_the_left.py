"""Reads the set's number like a written word, the first modality in the highest bit."""

from itertools import permutations

import numpy as np

QUESTION = "modality_credit"
REJECTED_BY = "test_terms_that_add_up"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}, expected {(2**modalities, items)}")
    credit = np.full((items, modalities), np.nan)
    for item in range(items):
        there = np.flatnonzero(present[item]).tolist()
        orders = list(permutations(there))
        credit[item, there] = 0
        for order in orders:
            shown = 0
            for m in order:
                bit = 1 << (modalities - 1 - m)
                credit[item, m] += (scores[shown | bit, item] - scores[shown, item]) / len(orders)
                shown |= bit
    return credit
