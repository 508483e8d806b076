"""Takes the score with nothing shown for 0. What every item gets anyway is then handed out to its modalities."""

from itertools import permutations

import numpy as np

QUESTION = "modality_credit"
REJECTED_BY = "test_two_modalities_by_hand"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}, expected {(2**modalities, items)}")
    scores = np.array(scores)
    scores[0] = 0
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
