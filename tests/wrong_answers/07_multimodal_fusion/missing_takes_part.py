"""Lets all modalities arrive, and blanks the missing ones at the end:

they have taken credit that belonged to the others.
"""

from itertools import permutations

import numpy as np

QUESTION = "modality_credit"
REJECTED_BY = "test_the_missing_never_arrive"


def modality_credit(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    items, modalities = present.shape
    if scores.shape != (2**modalities, items):
        raise ValueError(f"scores have shape {scores.shape}, expected {(2**modalities, items)}")
    credit = np.zeros((items, modalities))
    orders = list(permutations(range(modalities)))
    for order in orders:
        shown = 0
        for m in order:
            credit[:, m] += (scores[shown | 1 << m] - scores[shown]) / len(orders)
            shown |= 1 << m
    return np.where(present, credit, np.nan)
